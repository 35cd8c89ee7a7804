"""A whole recording, window after window, as openai/whisper's `transcribe` goes through it (transcribe.py).

It differs from the reference in four places, where that goes wrong. Segments without text or length are left out, not
emptied. A window whose last timestamp would not move on (0.00 twice) is passed as a whole; the reference never ends.
Clips behind the end of the recording are refused. A skipped window is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import UserError
from max_whisper.runtime.audio import SAMPLE_RATE
from max_whisper.runtime.decoding import TIME_PRECISION, DecodingOptions, DecodingResult
from max_whisper.runtime.mel import HOP

if TYPE_CHECKING:
    from max_whisper.runtime.model import Model

FRAMES_PER_SECOND = SAMPLE_RATE // HOP
FRAMES_PER_TOKEN = round(TIME_PRECISION * FRAMES_PER_SECOND)
RESET_TEMPERATURE = 0.5  # a window sampled at more is no context for the next


@dataclass(frozen=True)
class TranscribeOptions:
    """Names and defaults as in openai/whisper.

    temperature: tried one after the other until a window is neither repetitive nor unlikely.
    compression_ratio_threshold: a text that is compressed by more repeats itself; None: do not look.
    logprob_threshold: an average log-probability below is unlikely; None: do not look. If not given, `Model.transcribe`
        takes the checkpoint's, which is -1 for openai's.
    no_speech_threshold: a likelier no-speech than this, and an unlikely text, is silence; None: do not look.
    condition_on_previous_text: whether a window sees the text before it.
    initial_prompt: text that the first window sees as the text before it.
    carry_initial_prompt: whether every window sees it.
    clip_timestamps: seconds "start,end,start,end,…" of what is transcribed; the last end may be missing.
    """

    temperature: float | Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    condition_on_previous_text: bool = True
    initial_prompt: str | None = None
    carry_initial_prompt: bool = False
    clip_timestamps: str | Sequence[float] = "0"

    @property
    def temperatures(self) -> tuple[float, ...]:
        return (self.temperature,) if isinstance(self.temperature, int | float) else tuple(self.temperature)

    def clips(self, content: int | None) -> list[tuple[int, int]]:
        """Frames from and to of what is transcribed, of `content` (None: not known yet).

        Raises UserError for times that are not in order, or behind the end, where the reference makes text of nothing.
        """
        given = self.clip_timestamps
        try:
            parts = [part for part in given.split(",") if part] if isinstance(given, str) else given
            seconds = [float(part) for part in parts]
        except ValueError:
            raise UserError(f"clip_timestamps: expected seconds with commas between them, got '{given!s}'") from None
        if not all(0 <= time < float("inf") for time in seconds) or any(a > b for a, b in pairwise(seconds)):
            raise UserError(f"clip_timestamps: expected seconds in order, from 0 on, got '{given!s}'")
        points = [round(time * FRAMES_PER_SECOND) for time in seconds] or [0]
        if content is not None and points[-1] > content:
            raise UserError(
                f"clip_timestamps: expected times within the {content / FRAMES_PER_SECOND:g} s of the recording, "
                f"got {seconds[-1]:g}"
            )
        if len(points) % 2:
            points.append(points[-1] if content is None else content)
        return list(zip(points[::2], points[1::2], strict=True))


@dataclass(frozen=True)
class Segment:
    """The text between two timestamps; times in seconds. The last four are those of its window."""

    seek: int  # frame at which its window began
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


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
    skipped: bool  # as silence


@dataclass(frozen=True)
class TranscriptionResult:
    """windows: what became of each window, for who wants to know why the text is as it is."""

    text: str
    segments: list[Segment]
    language: str
    windows: list[Window] = field(repr=False)


class Transcriber:
    """Goes through one recording: iterate over it for each window as soon as it is done, and ask for the result."""

    def __init__(
        self,
        model: Model,
        mel: NDArray[np.float32],
        options: TranscribeOptions,
        decoding: DecodingOptions,
        language: str,
    ) -> None:
        """mel: float32 [n_mels, content + n_frames], as `Model.transcriber` makes it."""
        self.model = model
        self.mel = mel
        self.options = options
        self.decoding = decoding
        self.language = language
        self.windows: list[Window] = []  # that are done
        self._prompt = self._initial_prompt()
        self._tokens = [*self._prompt]  # so far, with timestamps
        self._unseen = 0  # of these, the next window sees none before

    @property
    def seconds(self) -> float:
        """Of the recording."""
        frames: int = self.mel.shape[1] - self.model.n_frames
        return frames / FRAMES_PER_SECOND

    def result(self) -> TranscriptionResult:
        """Of all windows so far."""
        text = self.model.tokenizer.decode(self._tokens[len(self._prompt) :])
        segments = [segment for window in self.windows for segment in window.segments]
        return TranscriptionResult(text, segments, self.language, self.windows)

    def __iter__(self) -> Iterator[Window]:
        size = self.model.n_frames
        content = self.mel.shape[1] - size
        for start, end in self.options.clips(content):
            seek = start
            while seek < end:
                window = self._window(seek, min(size, content - seek, end - seek), self._context())
                self.windows.append(window)
                self._tokens += [token for segment in window.segments for token in segment.tokens]
                if not window.skipped and (
                    not self.options.condition_on_previous_text or window.result.temperature > RESET_TEMPERATURE
                ):
                    self._unseen = len(self._tokens)
                yield window
                seek = window.seek

    def _context(self) -> list[int]:
        """The tokens that the next window sees as the text before it; it cuts them to its context itself."""
        if not self.options.carry_initial_prompt:
            return self._tokens[self._unseen :]
        room = self.model.manifest.dims["n_text_ctx"] // 2 - 1 - len(self._prompt)
        recent = self._tokens[max(len(self._prompt), self._unseen) :]
        return self._prompt + (recent[-room:] if room > 0 else [])

    def _initial_prompt(self) -> list[int]:
        prompt = self.options.initial_prompt
        return [] if prompt is None else self.model.tokenizer.encode(" " + prompt.strip())

    def _window(self, seek: int, length: int, context: list[int]) -> Window:
        mel = np.zeros((1, self.mel.shape[0], self.model.n_frames), np.float32)
        mel[0, :, :length] = self.mel[:, seek : seek + length]
        result, attempts = self._with_fallback(mel, context)
        begin, end = seek / FRAMES_PER_SECOND, (seek + length) / FRAMES_PER_SECOND
        if self._silent(result):
            return Window(begin, end, seek + length, [], attempts, result, skipped=True)
        pieces, advance = cut(result.tokens, self.model.manifest.tokens.timestamp_begin, length)
        segments = [self._segment(seek, begin + first, begin + last, part, result) for first, last, part in pieces]
        kept = [segment for segment in segments if segment.start != segment.end and segment.text.strip()]
        return Window(begin, end, seek + (advance or length), kept, attempts, result, skipped=False)

    def _segment(self, seek: int, start: float, end: float, tokens: list[int], result: DecodingResult) -> Segment:
        text = self.model.tokenizer.decode(tokens)
        measures = (result.temperature, result.avg_logprob, result.compression_ratio, result.no_speech_prob)
        return Segment(seek, start, end, text, tokens, *measures)

    def _silent(self, result: DecodingResult) -> bool:
        threshold, unlikely = self.options.no_speech_threshold, self.options.logprob_threshold
        if threshold is None or result.no_speech_prob <= threshold:
            return False
        return unlikely is None or result.avg_logprob <= unlikely

    def _with_fallback(self, mel: NDArray[np.float32], context: list[int]) -> tuple[DecodingResult, list[Attempt]]:
        """The text at the first temperature that gives a good one; else at the last."""
        features = self.model.encode(mel)
        attempts: list[Attempt] = []
        for temperature in self.options.temperatures:
            # An empty prompt is no prompt: openai/whisper leaves out start-of-previous as well.
            options = replace(self.decoding.at(temperature), prompt=context or None)
            (result,) = self.model.decode_with(features, options)
            attempts.append(Attempt(temperature, self._rejected(result)))
            if not attempts[-1].rejected:
                break
        return result, attempts

    def _rejected(self, result: DecodingResult) -> str:
        """Why a text is not good enough; "" if it is, or if it is silence."""
        options, reasons = self.options, []
        ratio, unlikely = options.compression_ratio_threshold, options.logprob_threshold
        if ratio is not None and result.compression_ratio > ratio:
            reasons.append(f"compression ratio {result.compression_ratio:.2f} > {ratio:g}")
        if unlikely is not None and result.avg_logprob < unlikely:
            reasons.append(f"average log-probability {result.avg_logprob:.2f} < {unlikely:g}")
            if options.no_speech_threshold is not None and result.no_speech_prob > options.no_speech_threshold:
                return ""
        return ", ".join(reasons)


def cut(tokens: Sequence[int], timestamp_begin: int, length: int) -> tuple[list[tuple[float, float, list[int]]], int]:
    """Segments of a window of `length` frames, and how many frames on the next window begins.

    A segment: seconds from the window's start, from and to, and its tokens. It ends where two timestamps follow each
    other. What follows the last pair is dropped and heard again, unless it ends in a single timestamp: then the rest of
    the window is silence.
    """

    def seconds(token: int) -> float:
        return (token - timestamp_begin) * TIME_PRECISION

    stamps = [token >= timestamp_begin for token in tokens]
    ends = [i for i in range(1, len(tokens)) if stamps[i - 1] and stamps[i]]
    closed = stamps[-2:] == [False, True]
    if not ends:
        last = next((token for token in reversed(tokens) if token >= timestamp_begin), timestamp_begin)
        end = seconds(last) if last != timestamp_begin else length / FRAMES_PER_SECOND
        return [(0.0, end, list(tokens))], length
    if closed:
        ends.append(len(tokens))
    parts = [list(tokens[first:last]) for first, last in pairwise([0, *ends])]
    segments = [(seconds(part[0]), seconds(part[-1]), part) for part in parts]
    return segments, length if closed else (parts[-1][-1] - timestamp_begin) * FRAMES_PER_TOKEN
