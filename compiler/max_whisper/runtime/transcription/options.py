"""What the transcription of a whole recording can be asked for.

Names and defaults are those of openai/whisper where it has the option, else those of faster-whisper. Each field says
what it takes (max_whisper/options.py), from which the checks and the command line's options come.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from max_whisper.errors import UserError
from max_whisper.options import Flag, Integer, Number, Numbers, Options, Text
from max_whisper.runtime.decoding.options import MAX_TEMPERATURE, TextKeywords

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import Manifest
    from max_whisper.runtime.decoding.tokenizer import Tokenizer

PREPENDED = "\"'“¿([{-"
"""Punctuation that belongs to the word after it."""
APPENDED = "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word before it."""
MAX_SECONDS = 86_400
"""The longest recording: a day."""
MAX_TEMPERATURES = 101


@dataclass(frozen=True)
class TranscribeOptions(Options):
    """How a whole recording is gone through."""

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
            "A text that zlib makes smaller by more than this factor repeats itself, and is tried again.",
            low=0,
            high=1000,
            unit="RATIO",
            unset="not looked at",
        ),
    ] = 2.4
    logprob_threshold: Annotated[
        float | Literal["model"] | None,
        Number(
            "A text whose tokens have a lower average log-probability is improbable, and is tried again; 'model' takes "
            "the model's own value, which is -1 for OpenAI's.",
            low=-1000,
            high=1000,
            unit="LOGPROB",
            unset="not looked at",
            words=("model",),
        ),
    ] = "model"
    no_speech_threshold: Annotated[
        float | None,
        Number(
            "A window is silence if the probability of no speech is above this and its text is improbable.",
            low=0,
            high=1,
            unit="PROBABILITY",
            unset="not looked at",
        ),
    ] = 0.6
    condition_on_previous_text: Annotated[bool, Flag("Let each window see the text before it.")] = True
    initial_prompt: Annotated[
        str | None,
        Text("Text that the first window sees as if it had been said before.", unit="TEXT", unset="no text"),
    ] = None
    carry_initial_prompt: Annotated[bool, Flag("Let every window see the initial prompt, not the first alone.")] = False
    hotwords: Annotated[
        str | None,
        Text("Names and terms that every window sees before all other text.", unit="TEXT", unset="none"),
    ] = None
    language_detection_segments: Annotated[
        int,
        Integer("The most windows that are heard to find out the language.", low=1, high=10_000),
    ] = 1
    language_detection_threshold: Annotated[
        float,
        Number(
            "A language with a higher probability than this is taken at once; else the one that most windows have.",
            low=0,
            high=1,
            unit="PROBABILITY",
        ),
    ] = 0.5
    audio_track: Annotated[
        int | None,
        Integer(
            "Number of the audio track to transcribe, where a file has several; the first is 0.",
            low=0,
            high=1000,
            unset="the file's default track",
        ),
    ] = None
    clip_timestamps: Annotated[
        str | Sequence[float],
        Numbers(
            "Parts to transcribe, as start,end,start,end,...; the last end may be left out.",
            low=0,
            high=MAX_SECONDS,
            unit="SECONDS",
            most=10_000,
        ),
    ] = "0"
    vad_filter: Annotated[bool, Flag("Transcribe only the parts that are loud enough to be a voice.")] = False
    vad_threshold: Annotated[
        float,
        Number("How much louder than the quietest moments a voice is, at least.", low=0, high=200, unit="DECIBELS"),
    ] = 10.0
    vad_min_silence: Annotated[
        float,
        Number("The shortest pause at which a part ends.", low=0, high=MAX_SECONDS, unit="SECONDS"),
    ] = 2.0
    vad_speech_pad: Annotated[
        float,
        Number("Time that is added at both ends of a part.", low=0, high=MAX_SECONDS, unit="SECONDS"),
    ] = 0.4
    word_timestamps: Annotated[
        bool, Flag("Find the time of every word; json then has words, and subtitles can be cut by them.")
    ] = False
    prepend_punctuations: Annotated[str, Text("Punctuation that belongs to the word after it.", unit="MARKS")] = (
        PREPENDED
    )
    append_punctuations: Annotated[str, Text("Punctuation that belongs to the word before it.", unit="MARKS")] = (
        APPENDED
    )
    hallucination_silence_threshold: Annotated[
        float | None,
        Number(
            "Leave out improbable words that have more silence than this around them; needs word_timestamps.",
            low=0,
            high=MAX_SECONDS,
            unit="SECONDS",
            unset="nothing is left out",
        ),
    ] = None
    explain: Annotated[
        bool, Flag("Record which rule kept each token from being the most probable one; costs one more decoder pass.")
    ] = False

    def check(self) -> None:
        """Raises UserError for values that do not go together."""
        if not self.temperatures:
            raise UserError("temperature: expected at least one, got none")
        if any(start > end for start, end in pairwise(self.clip_times)):
            times = ", ".join(f"{time:g}" for time in self.clip_times)
            raise UserError(f"clip_timestamps: expected seconds in order, got {times}")
        if self.vad_filter and self.clip_timestamps != (0.0,):
            raise UserError("vad_filter: finds the clips itself; leave it out, or clip_timestamps")
        plain = TranscribeOptions()
        vad = ("vad_threshold", "vad_min_silence", "vad_speech_pad")
        if not self.vad_filter and any(getattr(self, name) != getattr(plain, name) for name in vad):
            raise UserError(f"{', '.join(vad)}: are for vad_filter, give it too")
        if not self.vad_min_silence > 2 * self.vad_speech_pad:
            raise UserError(
                f"vad_min_silence: expected more than {2 * self.vad_speech_pad:g} seconds, which is twice "
                f"vad_speech_pad, got {self.vad_min_silence:g}"
            )
        if self.word_timestamps:
            return
        if self.hallucination_silence_threshold is not None:
            raise UserError("hallucination_silence_threshold: needs the times of words, give word_timestamps too")
        if (self.prepend_punctuations, self.append_punctuations) != (PREPENDED, APPENDED):
            raise UserError("prepend_punctuations, append_punctuations: are for words, give word_timestamps too")

    def of_model(self, manifest: "Manifest", tokenizer: "Tokenizer") -> "TranscribeOptions":
        """Returns the options with a model's own values filled in. Raises UserError for what does not go together."""
        options = self
        if self.logprob_threshold == "model":
            options = replace(self, logprob_threshold=manifest.tokens.logprob_threshold)
        options.check()
        half = manifest.dims["n_text_ctx"] // 2
        if self.hotwords is not None and len(tokenizer.encode(" " + self.hotwords.strip())) >= half:
            raise UserError(f"hotwords: expected fewer than {half} tokens, half of the text context")
        return options

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures that are tried, at least one."""
        return (self.temperature,) if isinstance(self.temperature, int | float) else tuple(self.temperature)

    @property
    def min_logprob(self) -> float | None:
        """The average log-probability below which a text is improbable; `of_model` fills in the model's."""
        assert not isinstance(self.logprob_threshold, str)
        return self.logprob_threshold

    @property
    def clip_times(self) -> tuple[float, ...]:
        """Seconds at which parts begin and end in turn."""
        return tuple(float(time) for time in self.clip_timestamps)


class TranscribeKeywords(TextKeywords, total=False):
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
    audio_track: int | None
    clip_timestamps: str | Sequence[float]
    vad_filter: bool
    vad_threshold: float
    vad_min_silence: float
    vad_speech_pad: float
    word_timestamps: bool
    prepend_punctuations: str
    append_punctuations: str
    hallucination_silence_threshold: float | None
    explain: bool
