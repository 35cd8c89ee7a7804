"""The classes of the values that the runtime returns, which have no methods."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """A word and when it was said.

    Attributes:
        word: The text, with the space before it and the punctuation around it.
        start: The time at which it begins, in seconds of the recording.
        end: The time at which it ends, in seconds of the recording.
        probability: The mean probability of its tokens, from 0 to 1.
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
        compression_ratio: The bytes of the text divided by its bytes after zlib; high for text that repeats itself.
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
class SegmentWarning:
    """A reason to think that a segment was not said.

    Attributes:
        kind: The name of the signal: repetition, silence, behind_end, no_speech or too_fast.
        reason: What was found, in words.
    """

    kind: str
    reason: str


@dataclass(frozen=True)
class Segment:
    """The text between two timestamps. The temperature and the measures are those of its window.

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
        warnings: Why the text was probably invented; empty where nothing says so.
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
    warnings: list[SegmentWarning] = field(default_factory=list)


@dataclass(frozen=True)
class Attempt:
    """One attempt to decode a window.

    Attributes:
        temperature: The temperature at which the tokens were chosen.
        rejected: Why the text was not good enough; "" if it was.
    """

    temperature: float
    rejected: str


@dataclass(frozen=True)
class Window:
    """The segments of one window, and how they were decoded.

    Attributes:
        start: The time at which it begins, in seconds of the recording.
        end: The time at which its sound ends, in seconds of the recording.
        seek: The mel frame at which the next window begins.
        segments: The segments of its text.
        attempts: The attempts to decode the window, the last of which gave the result.
        result: The decoded text, before it was cut into segments.
        skipped: Why the text was dropped; "" if it was not.
        overrides: The steps at which the decoder did not choose the token with the largest logit; empty unless the
            option `explain` asks for them.
        dropped: The segments that were left out because of their warnings, as the option `drop_suspect` asks for.
        logprobs: The log-probability of each token of `result`, and behind them that of end-of-text if the text ended;
            None unless the option `token_logprobs` asks for them.
        last_speech: The time at which the last word up to here ends, in seconds, by which the words of the next window
            are timed; 0 without the times of words.
    """

    start: float
    end: float
    seek: int
    segments: list[Segment]
    attempts: list[Attempt]
    result: DecodingResult
    skipped: str
    overrides: list[Override]
    dropped: list[Segment] = field(default_factory=list)
    logprobs: list[float] | None = None
    last_speech: float = 0.0


@dataclass(frozen=True)
class TranscriptionResult:
    """The text of a recording.

    Attributes:
        text: The text.
        segments: The text in segments, with their times. As in openai/whisper, the last one may end after the
            recording, because the last window is filled up with silence; written files end with the recording.
        language: The code of the language.
        windows: The windows, to find out why the text is as it is.
        duration: The duration of the recording in seconds.
    """

    text: str
    segments: list[Segment]
    language: str
    windows: list[Window] = field(repr=False)
    duration: float
