"""A whole recording, window after window, as openai/whisper's `transcribe` goes through it (transcribe.py).

It differs from the reference in four places, where that goes wrong. Segments without text or length are left out, not
emptied. A window whose last timestamp would not move on (0.00 twice) is passed as a whole; the reference never ends.
Clips behind the end of the recording are refused. A skipped window is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import UserError
from max_whisper.progress import Progress
from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, LogMel
from max_whisper.runtime.audio.vad import Clip
from max_whisper.runtime.decoding.options import TIME_PRECISION, DecodingOptions
from max_whisper.runtime.results import Attempt, DecodingResult, Segment, TranscriptionResult, Window
from max_whisper.runtime.transcription.hallucination import Surroundings, speech_end
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.scheduler import Decode, Encode, Steps, WindowFeatures, alone, in_order, together
from max_whisper.runtime.transcription.words import place

if TYPE_CHECKING:
    from max_whisper.runtime.model import Features, Model

FRAMES_PER_TOKEN = round(TIME_PRECISION * FRAMES_PER_SECOND)
Encoded: TypeAlias = "tuple[NDArray[np.float32], Features]"  # a window, float32 [1, n_mels, n_frames]
RESET_TEMPERATURE = 0.5  # a window sampled at more is no context for the next


def clips_of(options: TranscribeOptions, content: int) -> list[Clip]:
    """Returns the first frame of each part that is transcribed, and the frame behind its last one.

    content: frames of the recording. Raises UserError for times behind its end, where the reference makes text of
    nothing.
    """
    times = options.clip_times or (0.0,)
    frames = [round(time * FRAMES_PER_SECOND) for time in times]
    if frames[-1] > content:
        raise UserError(
            f"clip_timestamps: expected times within the {content / FRAMES_PER_SECOND:g} seconds of the recording, "
            f"got {times[-1]:g}"
        )
    if len(frames) % 2:
        frames.append(content)
    return list(zip(frames[::2], frames[1::2], strict=True))


class Transcriber:
    """Goes through one recording: iterate over it for each window as soon as it is done, and ask for the result.

    `steps` goes through it with the model's work left to whoever drives it, who may do that of several at once.
    """

    def __init__(
        self,
        model: Model,
        mel: LogMel,
        options: TranscribeOptions,
        decoding: DecodingOptions,
        language: str,
        clips: Sequence[Clip],
        encoded: Encoded | None = None,
    ) -> None:
        """mel: of the recording with a window of zeros behind it, as `Model.transcriber` makes it.

        clips: frames from and to of what is transcribed.
        encoded: a window of which there are features already.
        """
        self.model = model
        self.mel = mel
        self.options = options
        self.decoding = decoding
        self.language = language
        self.clips = clips
        self._encoded = encoded
        self._last_speech = 0.0  # seconds at which the last word ended
        self.windows: list[Window] = []  # that are done
        self._prompt, self._hotwords = (
            [] if text is None else model.tokenizer.encode(" " + text.strip())
            for text in (options.initial_prompt, options.hotwords)
        )
        self._tokens = [*self._prompt]  # so far, with timestamps
        self._unseen = 0  # of these, the next window sees none before

    @property
    def seconds(self) -> float:
        """Of the recording."""
        return self._content / FRAMES_PER_SECOND

    @property
    def _content(self) -> int:
        """Frames of the recording."""
        return self.mel.frames - self.model.n_frames

    @property
    def segments(self) -> list[Segment]:
        """The segments of all windows so far."""
        return [segment for window in self.windows for segment in window.segments]

    def progress(self, window: Window, index: int = 0) -> Progress:
        """Returns how far the recording is when a window is done. index: which of several recordings it is."""
        message = f"transcribed {window.end:.0f} of {self.seconds:.0f} s"
        return Progress(message, window.end, self.seconds, "seconds", index)

    def result(self) -> TranscriptionResult:
        """Of all windows so far."""
        text = self.model.tokenizer.decode(self._tokens[len(self._prompt) :])
        return TranscriptionResult(text, self.segments, self.language, self.windows, self.mel.seconds)

    def __iter__(self) -> Iterator[Window]:
        parts = self._parts() if self.model.manifest.plan.batch > 1 else [self]
        if len(parts) == 1:
            yield from alone(self.model, self.steps())
            return
        for window in in_order(together(self.model, [part.steps() for part in parts]), len(parts)):
            self.windows.append(window)
            self._tokens += [token for segment in window.segments for token in segment.tokens]
            yield window

    def _parts(self) -> list[Transcriber]:
        """One for each clip, where the text of one does not depend on another's."""
        options = self.options
        if options.condition_on_previous_text or options.word_timestamps:
            return [self]
        if options.initial_prompt is not None and not options.carry_initial_prompt:  # for the first text alone
            return [self]
        return [
            Transcriber(self.model, self.mel, options, self.decoding, self.language, [clip], self._encoded)
            for clip in self.clips
        ]

    def steps(self) -> Steps[Window]:
        """Gives each window when it is done, and before that the questions whose answers it needs."""
        size, content = self.model.n_frames, self._content
        for start, end in self.clips:
            seek = start
            while seek < end:
                window = yield from self._window(seek, min(size, content - seek, end - seek), self._context())
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
        carried, unseen = self._hotwords, self._unseen
        if self.options.carry_initial_prompt:
            carried, unseen = carried + self._prompt, max(len(self._prompt), unseen)
        recent = self._tokens[unseen:]
        if not carried:
            return recent
        room = self.model.manifest.dims["n_text_ctx"] // 2 - 1 - len(carried)
        return carried + (recent[-room:] if room > 0 else [])

    def _window(self, seek: int, length: int, context: list[int]) -> Steps[Any]:
        features = yield from self._features(seek, length)
        result, attempts = yield from self._with_fallback(features, context)
        masked = []
        if self.options.explain:
            masked = self.model.explain(features, result, self._decoding(result.temperature, context))
        begin, end = seek / FRAMES_PER_SECOND, (seek + length) / FRAMES_PER_SECOND
        if self._silent(result):
            return Window(begin, end, seek + length, [], attempts, result, "silence", masked)
        pieces, advance = cut(result.tokens, self.model.manifest.tokens.timestamp_begin, length)
        segments = [self._segment(seek, begin + first, begin + last, part, result) for first, last, part in pieces]
        following, skipped = seek + (advance or length), ""
        if self.options.word_timestamps:
            stamps = [token >= self.model.manifest.tokens.timestamp_begin for token in result.tokens]
            closed = stamps[-2:] == [False, True]
            segments, following, skipped = self._with_words(segments, features, seek, length, following, closed)
        kept = [segment for segment in segments if segment.start != segment.end and segment.text.strip()]
        return Window(begin, end, following, kept, attempts, result, skipped, masked)

    def _features(self, seek: int, length: int) -> Steps[Any]:
        """Of the window that begins at a frame, with `length` frames of sound."""
        mel = np.zeros((1, self.mel.n_mels, self.model.n_frames), np.float32)
        mel[0, :, :length] = self.mel.part(seek, seek + length)
        if self._encoded is not None and np.array_equal(mel, self._encoded[0]):
            return self._encoded[1]
        features = yield Encode(mel)
        return features

    def _with_words(
        self, segments: list[Segment], features: WindowFeatures, seek: int, length: int, following: int, closed: bool
    ) -> tuple[list[Segment], int, str]:
        """The segments with their words, the frame at which the next window begins, and why they are passed over.

        closed: whether the text ended in a single timestamp, after which nothing was said.
        """
        options, eot = self.options, self.model.manifest.tokens.eot
        text = [token for segment in segments for token in segment.tokens if token < eot]
        words = self.model.align(features, text, language=self.language, task=self.decoding.task, n_frames=length)
        offset = seek / FRAMES_PER_SECOND
        placed = place(
            segments,
            words,
            eot=eot,
            offset=offset,
            last_speech=self._last_speech,
            prepended=options.prepend_punctuations,
            appended=options.append_punctuations,
        )
        segments = [
            replace(segment, start=p.start, end=p.end, words=p.words)
            for segment, p in zip(segments, placed, strict=True)
        ]
        end = speech_end(segments)
        if not closed and end is not None and end > offset:
            following = round(end * FRAMES_PER_SECOND)
        skipped = ""
        if (threshold := options.hallucination_silence_threshold) is not None:
            around = Surroundings(
                threshold=threshold,
                begin=seek,
                length=length,
                n_frames=self.model.n_frames,
                content=self._content,
                closed=closed,
                last_speech=self._last_speech,
            )
            segments, following, skipped = around.without_hallucinations(segments, following)
        if not skipped and (end := speech_end(segments)) is not None:
            self._last_speech = end
        return segments, following, skipped

    def _segment(self, seek: int, start: float, end: float, tokens: list[int], result: DecodingResult) -> Segment:
        text = self.model.tokenizer.decode(tokens)
        measures = (result.temperature, result.avg_logprob, result.compression_ratio, result.no_speech_prob)
        return Segment(seek, start, end, text, tokens, *measures)

    def _silent(self, result: DecodingResult) -> bool:
        threshold, unlikely = self.options.no_speech_threshold, self.options.least_logprob
        if threshold is None or result.no_speech_prob <= threshold:
            return False
        return unlikely is None or result.avg_logprob <= unlikely

    def _with_fallback(self, features: WindowFeatures, context: list[int]) -> Steps[Any]:
        """The text at the first temperature that gives a good one; else at the last."""
        attempts: list[Attempt] = []
        for temperature in self.options.temperatures:
            result = yield Decode(features, self._decoding(temperature, context))
            attempts.append(Attempt(temperature, self._rejected(result)))
            if not attempts[-1].rejected:
                break
        return result, attempts

    def _decoding(self, temperature: float, context: list[int]) -> DecodingOptions:
        """The options of one attempt."""
        # An empty prompt is no prompt: openai/whisper leaves out start-of-previous as well.
        return replace(self.decoding.at(temperature), prompt=context or None)

    def _rejected(self, result: DecodingResult) -> str:
        """Why a text is not good enough; "" if it is, or if it is silence."""
        options, reasons = self.options, []
        ratio, unlikely = options.compression_ratio_threshold, options.least_logprob
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
