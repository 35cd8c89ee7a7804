"""What the runtime returns: values alone, without logic."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """word: with the space before it and the punctuation around it. start, end: seconds. probability: 0 to 1."""

    word: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class DecodingResult:
    """The text of one window."""

    language: str  # "en" for an English-only model
    tokens: list[int]  # sampled ones, without prompt and end-of-text; timestamps among them
    text: str
    avg_logprob: float  # of the tokens and end-of-text: sum / (number of tokens + 1)
    no_speech_prob: float
    temperature: float
    compression_ratio: float  # bytes of the text / its bytes after zlib: high where it repeats itself


@dataclass(frozen=True)
class Override:
    """A step at which the token with the largest logit was not taken."""

    step: int  # the place among the window's sampled tokens, from 0
    argmax: int  # the token with the largest logit
    chosen: int  # the token that was taken instead; end-of-text where the text ended
    reason: str  # the first rule, in the order of openai/whisper, that forbids the likeliest; or why none did


@dataclass(frozen=True)
class Segment:
    """The text between two timestamps; times in seconds. Temperature and what follows are those of its window."""

    seek: int  # frame at which its window began
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[Word] | None = None  # where they were asked for


@dataclass(frozen=True)
class Attempt:
    """A temperature that was tried for a window, and why its text was not taken ("" if it was)."""

    temperature: float
    rejected: str


@dataclass(frozen=True)
class Window:
    """What became of one window: times in seconds, `seek` the frame at which the next one begins."""

    start: float
    end: float
    seek: int
    segments: list[Segment]
    attempts: list[Attempt]
    result: DecodingResult
    skipped: str  # why there is no text of it, "" if there is
    overrides: list[Override]  # where the argmax token was not taken, if that was asked for


@dataclass(frozen=True)
class TranscriptionResult:
    """The text of a recording.

    language: its code. duration: seconds of the recording; as in the reference, the last segment may end later, because
        the model writes of a last window's silence as well (files with times are cut there, `output/writers.py`).
    windows: what became of each window, for who wants to know why the text is as it is.
    """

    text: str
    segments: list[Segment]
    language: str
    windows: list[Window] = field(repr=False)
    duration: float
