"""The options of a stream: when a phrase ends, how often it is heard again, and which words are confirmed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypedDict

from max_whisper.option_kinds import Choice, Folder, Integer, Number
from max_whisper.options import OptionError, Options, options_of
from max_whisper.runtime.decoding.conflicts import check_decoding
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.streaming.policies import PolicyName
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.vad.speech import SpeechSettings

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.tokenizer import Tokenizer

MAX_MS = 30_000
WITHOUT_SILERO = "name a compiled one by {vad_model}, or end phrases yourself, with {endpoints} none"
"""What to do where there is no voice detector, for messages."""


@dataclass(frozen=True)
class StreamOptions(Options, headings={"policy": "Text while somebody speaks", "endpoints": "Phrases"}):
    """How sound is transcribed while it is said."""

    policy: Annotated[
        PolicyName,
        Choice(
            "Confirm words that do not attend to the newest sound (alignatt), or that were found twice in a row "
            "(local_agreement), which is slower, and for models without good alignment heads.",
            words=("alignatt", "local_agreement"),
        ),
    ] = "alignatt"
    hold_back: Annotated[
        float,
        Number("The newest sound, whose words {policy} alignatt does not confirm yet.", low=0, high=10, unit="SECONDS"),
    ] = 0.5
    step: Annotated[
        float,
        Number(
            "Listen again after this much new sound; a slow or busy computer waits longer.",
            low=0.1,
            high=10,
            unit="SECONDS",
        ),
    ] = 0.5
    endpoints: Annotated[
        Literal["silero", "none"],
        Choice(
            "End a phrase at a pause that Silero VAD hears; or only where the caller commits it, or it is too long.",
            words=("silero", "none"),
        ),
    ] = "silero"
    vad_threshold: Annotated[
        float, Number("Speech begins where it is at least as probable as this.", low=0, high=1, unit="PROBABILITY")
    ] = 0.5
    vad_neg_threshold: Annotated[
        float | None,
        Number(
            "Speech may end where it is less probable than this.",
            low=0,
            high=1,
            unit="PROBABILITY",
            unset="0.15 less than {vad_threshold}, at least 0.01",
        ),
    ] = None
    vad_min_speech_duration_ms: Annotated[
        int, Integer("Leave out phrases that are not longer than this.", low=0, high=MAX_MS, unit="MILLISECONDS")
    ] = 100
    vad_min_silence_duration_ms: Annotated[
        int,
        Integer(
            "End a phrase at a pause of this length, or a shorter one where the phrase is long.",
            low=50,
            high=MAX_MS,
            unit="MILLISECONDS",
        ),
    ] = 250
    vad_speech_pad_ms: Annotated[
        int,
        Integer("Let the model hear this much before the speech as well.", low=0, high=1000, unit="MILLISECONDS"),
    ] = 300
    vad_model: Annotated[
        str | os.PathLike[str] | None,
        Folder(
            'Folder of a voice detector that "build" made.', unset="Silero VAD in the cache, built at its first use"
        ),
    ] = None

    @property
    def speech(self) -> SpeechSettings:
        """How probabilities of speech become phrases."""
        return SpeechSettings(
            threshold=self.vad_threshold,
            neg_threshold=self.vad_neg_threshold,
            min_speech_duration_ms=self.vad_min_speech_duration_ms,
            min_silence_duration_ms=self.vad_min_silence_duration_ms,
            speech_pad_ms=self.vad_speech_pad_ms,
        )


OPTION_CLASSES = (StreamOptions, TranscribeOptions, DecodingOptions)
"""The classes of the options of `Model.stream`; a name that several have belongs to the first of them."""
CheckedOptions: TypeAlias = tuple[StreamOptions, TranscribeOptions, DecodingOptions]
NOT_FOR_STREAMS = (
    "beam_size",
    "draft",
    "drop_suspect",
    "explain",
    "hallucination_silence_threshold",
    "language_detection_segments",
    "max_initial_timestamp",
    "max_new_tokens",
    "patience",
    "prefix",
    "prompt",
    "token_logprobs",
    "without_timestamps",
    "word_timestamps",
)
"""The options of these classes that are for recordings, or that a stream sets itself."""


class StreamKeywords(TypedDict, total=False):
    """The options of `Model.stream`, for type checkers and editors."""

    policy: PolicyName
    hold_back: float
    step: float
    endpoints: Literal["silero", "none"]
    vad_threshold: float
    vad_neg_threshold: float | None
    vad_min_speech_duration_ms: int
    vad_min_silence_duration_ms: int
    vad_speech_pad_ms: int
    vad_model: str | os.PathLike[str] | None
    task: str
    language: str | None
    temperature: float | Sequence[float]
    compression_ratio_threshold: float | None
    logprob_threshold: float | Literal["model"] | None
    no_speech_threshold: float | None
    condition_on_previous_text: bool
    initial_prompt: str | None
    carry_initial_prompt: bool
    hotwords: str | None
    language_detection_threshold: float
    prepend_punctuations: str
    append_punctuations: str
    best_of: int | None
    length_penalty: float | None
    suppress_tokens: str | Sequence[int] | None
    suppress_blank: bool
    no_repeat_ngram_size: int
    repetition_penalty: float
    seed: int


def checked_stream_options(
    keywords: Mapping[str, Any], manifest: "WhisperManifest", tokenizer: "Tokenizer"
) -> CheckedOptions:
    """Returns the options of a stream, with the model's default values filled in.

    Raises UserError for values that are wrong, conflict with each other, or that the model does not support.
    """
    for name in keywords:
        if name in NOT_FOR_STREAMS:
            raise OptionError(f"{{{name}}}: is for recordings, not for streams; leave it out")
    stream, transcribe, decoding = options_of({**keywords, "word_timestamps": True}, *OPTION_CLASSES)
    transcribe = transcribe.of_model(manifest, tokenizer)
    for temperature in transcribe.temperatures:
        check_decoding(decoding.at(temperature), manifest, tokenizer)
    return stream, transcribe, decoding
