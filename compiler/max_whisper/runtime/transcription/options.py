"""The options that say how the windows of a recording are transcribed.

Names and defaults are those of openai/whisper where it has the option, else those of faster-whisper. Each field says
what it takes (max_whisper/options.py), from which the checks and the command line's options come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from max_whisper.option_kinds import Flag, Integer, Number, Numbers, Text
from max_whisper.options import OptionError, Options
from max_whisper.runtime.audio.waveform import MAX_SECONDS
from max_whisper.runtime.decoding.keywords import TextKeywords
from max_whisper.runtime.decoding.options import MAX_TEMPERATURE, DecodingOptions
from max_whisper.runtime.transcription.part_options import PartKeywords, PartOptions

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.tokenizer import Tokenizer

PREPENDED = "\"'“¿([{-"
"""Punctuation that belongs to the word after it."""
APPENDED = "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word before it."""
MAX_TEMPERATURES = 101


@dataclass(frozen=True)
class TranscribeOptions(
    Options,
    headings={
        "temperature": "Temperature and retries",
        "condition_on_previous_text": "Text that the model reads before a window",
        "language_detection_segments": "Language",
        "word_timestamps": "Times of words",
        "drop_suspect": "Invented text",
        "explain": "Output",
    },
):
    """How the windows of a recording are transcribed."""

    temperature: Annotated[
        float | Sequence[float],
        Numbers(
            "Temperatures that are tried in turn, until the text of a window is neither repetitive nor improbable.",
            low=0,
            high=MAX_TEMPERATURE,
            unit="TEMPERATURES",
            most=MAX_TEMPERATURES,
        ),
    ] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: Annotated[
        float | None,
        Number(
            "A text is repetitive, and its window is tried again, if zlib makes it smaller by more than this "
            "factor; none turns this check off.",
            low=0,
            high=1000,
            unit="RATIO",
            unset="not checked",
        ),
    ] = 2.4
    logprob_threshold: Annotated[
        float | Literal["model"] | None,
        Number(
            "A text is improbable, and its window is tried again, if the average log-probability of its tokens "
            "is below this. 'model' stands for the model's own value, which is -1 for OpenAI's models; none "
            "turns this check off.",
            low=-1000,
            high=1000,
            unit="LOGPROB",
            unset="not checked",
            words=("model",),
        ),
    ] = "model"
    no_speech_threshold: Annotated[
        float | None,
        Number(
            "A window has no text if the model gives silence a higher probability than this, and the text is "
            "improbable; none turns this check off.",
            low=0,
            high=1,
            unit="PROBABILITY",
            unset="not checked",
        ),
    ] = 0.6
    condition_on_previous_text: Annotated[
        bool,
        Flag(
            "Let the model read the text of earlier windows. That keeps names and style the same, but a mistake "
            "may be repeated."
        ),
    ] = True
    initial_prompt: Annotated[
        str | None,
        Text(
            "Text that the model reads before the first window, as if it had been said before; names and "
            "style are taken from it.",
            unit="TEXT",
            unset="no text",
        ),
    ] = None
    carry_initial_prompt: Annotated[
        bool, Flag("Let the model read {initial_prompt} before every window, not only before the first.")
    ] = False
    hotwords: Annotated[
        str | None,
        Text(
            "Names and terms that may be said; the model reads them before every window.", unit="TEXT", unset="no words"
        ),
    ] = None
    language_detection_segments: Annotated[
        int,
        Integer("Listen to at most this number of windows to detect the language.", low=1, high=10_000),
    ] = 1
    language_detection_threshold: Annotated[
        float,
        Number(
            "Stop at the first window in which a language has a higher probability than this. Where no "
            "window has one, the language of most windows is taken.",
            low=0,
            high=1,
            unit="PROBABILITY",
        ),
    ] = 0.5
    word_timestamps: Annotated[
        bool, Flag("Find the time of every word. json then has the words, and subtitles can be cut by them.")
    ] = False
    prepend_punctuations: Annotated[
        str, Text("Punctuation that belongs to the word after it. Needs {word_timestamps}.", unit="MARKS")
    ] = PREPENDED
    append_punctuations: Annotated[
        str, Text("Punctuation that belongs to the word before it. Needs {word_timestamps}.", unit="MARKS")
    ] = APPENDED
    hallucination_silence_threshold: Annotated[
        float | None,
        Number(
            "Leave out text that was probably made up: improbable words with more silence than this around "
            "them. Needs {word_timestamps}.",
            low=0,
            high=MAX_SECONDS,
            unit="SECONDS",
            unset="nothing is left out",
        ),
    ] = None
    drop_suspect: Annotated[
        bool,
        Flag(
            "Leave out segments that were probably made up: their text repeats itself, lies in silence or behind the "
            "end of the recording, is improbable where there may be no speech, or cannot be said so fast. Without "
            "this option they have warnings."
        ),
    ] = False
    explain: Annotated[
        bool,
        Flag(
            "Record for each token which rule kept the most probable one from being chosen. Costs one more "
            "decoder pass."
        ),
    ] = False
    token_logprobs: Annotated[bool, Flag("Record the log-probability of each token. Costs one more decoder pass.")] = (
        False
    )

    def check(self) -> None:
        """Raises OptionError for values that conflict with each other."""
        if not self.temperatures:
            raise OptionError("{temperature}: expected at least one, got none")
        if self.word_timestamps:
            return
        if self.hallucination_silence_threshold is not None:
            raise OptionError("{hallucination_silence_threshold}: needs the times of words, give {word_timestamps} too")
        if (self.prepend_punctuations, self.append_punctuations) != (PREPENDED, APPENDED):
            raise OptionError(
                "{prepend_punctuations}, {append_punctuations}: are for words, give {word_timestamps} too"
            )

    def of_model(self, manifest: "WhisperManifest", tokenizer: "Tokenizer") -> "TranscribeOptions":
        """Returns the options with a model's default values filled in. Raises OptionError for values that conflict."""
        options = self
        if self.logprob_threshold == "model":
            options = replace(self, logprob_threshold=manifest.tokens.logprob_threshold)
        options.check()
        half = manifest.dims["n_text_ctx"] // 2
        if self.hotwords is not None and len(tokenizer.encode(" " + self.hotwords.strip())) >= half:
            raise OptionError("{hotwords}: expected fewer than {half} tokens, half of the text context", half=half)
        return options

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures that are tried, at least one."""
        return (self.temperature,) if isinstance(self.temperature, int | float) else tuple(self.temperature)

    @property
    def min_logprob(self) -> float | None:
        """The average log-probability below which a text is improbable, after `of_model` has filled in the model's."""
        assert not isinstance(self.logprob_threshold, str)
        return self.logprob_threshold


RECORDING_OPTIONS = (TranscribeOptions, PartOptions, DecodingOptions)
"""The classes of the options of `Model.transcribe`; a name that several have belongs to the first of them."""


class TranscribeKeywords(TextKeywords, PartKeywords, total=False):
    """The options of `Model.transcribe`, for type checkers and editors."""

    temperature: float | Sequence[float]
    compression_ratio_threshold: float | None
    logprob_threshold: float | Literal["model"] | None
    no_speech_threshold: float | None
    condition_on_previous_text: bool
    initial_prompt: str | None
    carry_initial_prompt: bool
    hotwords: str | None
    language_detection_segments: int
    language_detection_threshold: float
    word_timestamps: bool
    prepend_punctuations: str
    append_punctuations: str
    hallucination_silence_threshold: float | None
    drop_suspect: bool
    explain: bool
    token_logprobs: bool
