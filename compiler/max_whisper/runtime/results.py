"""What the runtime returns: values alone, without logic."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """A word and when it was said.

    Attributes:
        word: The text, with the space before it and the punctuation around it.
        start: The time at which it begins, in seconds of the recording.
        end: The time at which it ends, in seconds of the recording.
        probability: The mean probability of its tokens, 0 to 1.
    """

    word: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class DecodingResult:
    """The text of one window.

    Attributes:
        language: The code of the language; "en" for an English-only model.
        tokens: The ids of the chosen tokens, timestamps among them, without the prompt and end-of-text.
        text: The text of the tokens.
        avg_logprob: The mean log-probability of the tokens and end-of-text: sum / (number of tokens + 1).
        no_speech_prob: The probability of the no-speech token after start-of-transcript.
        temperature: The temperature at which the tokens were chosen.
        compression_ratio: The bytes of the text divided by its bytes after zlib; high where the text repeats itself.
    """

    language: str
    tokens: list[int]
    text: str
    avg_logprob: float
    no_speech_prob: float
    temperature: float
    compression_ratio: float


@dataclass(frozen=True)
class Override:
    """A step at which the decoder did not choose the token with the largest logit.

    Attributes:
        step: The index among the tokens of the window, from 0.
        argmax: The id of the token with the largest logit.
        chosen: The id of the token that was chosen; end-of-text where the text ended.
        reason: The first rule that forbids the argmax token, or why none did.
    """

    step: int
    argmax: int
    chosen: int
    reason: str


@dataclass(frozen=True)
class Segment:
    """The text between two timestamps. What follows `tokens` is that of its window.

    Attributes:
        seek: The mel frame at which the window begins; a frame is 10 ms.
        start: The time at which the segment begins, in seconds of the recording.
        end: The time at which it ends, in seconds of the recording.
        text: The text, with the space before it.
        tokens: The token ids, timestamps among them.
        temperature: The temperature at which the tokens were chosen.
        avg_logprob: The mean log-probability of the tokens of the window.
        compression_ratio: The compression ratio of the text of the window.
        no_speech_prob: The probability of no speech in the window.
        words: The words with their times, if they were asked for.
    """

    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[Word] | None = None


@dataclass(frozen=True)
class Attempt:
    """A temperature that was tried for a window.

    Attributes:
        temperature: The temperature.
        rejected: Why the text was not good enough; "" if it was.
    """

    temperature: float
    rejected: str


@dataclass(frozen=True)
class Window:
    """What became of one window.

    Attributes:
        start: The time at which it begins, in seconds of the recording.
        end: The time at which its sound ends, in seconds of the recording.
        seek: The mel frame at which the next window begins.
        segments: The segments of its text.
        attempts: The temperatures that were tried.
        result: The text as it was decoded.
        skipped: Why no text was taken from it; "" if it was.
        overrides: Where the decoder did not choose the token with the largest logit, if that was asked for.
    """

    start: float
    end: float
    seek: int
    segments: list[Segment]
    attempts: list[Attempt]
    result: DecodingResult
    skipped: str
    overrides: list[Override]


@dataclass(frozen=True)
class TranscriptionResult:
    """The text of a recording.

    Attributes:
        text: The text.
        segments: The text in segments, with their times. As in openai/whisper, the last one may end after the
            recording, because the model writes of the silence behind it as well; written files end with the recording.
        language: The code of the language.
        windows: What became of each window, to find out why the text is as it is.
        duration: The duration of the recording in seconds.
    """

    text: str
    segments: list[Segment]
    language: str
    windows: list[Window] = field(repr=False)
    duration: float
