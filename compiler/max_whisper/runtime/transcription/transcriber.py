"""Transcribes a whole recording, window after window, as openai/whisper's `transcribe` does (transcribe.py).

It differs from the reference in four places, where the reference fails. Segments without text or length are left out,
not emptied. A window whose text ends at its very beginning (0.00 twice) is followed by the next one; the reference
decodes it forever. Clips behind the end of the recording are refused. A skipped window is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.errors import UserError
from max_whisper.progress import Progress
from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, Floats, LogMel
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.features import WindowFeatures
from max_whisper.runtime.results import DecodingResult, Segment, TranscriptionResult, Window
from max_whisper.runtime.transcription.clips import Clip
from max_whisper.runtime.transcription.driver import drive, in_order
from max_whisper.runtime.transcription.hallucination import WindowPosition, speech_end
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.quality import is_silence
from max_whisper.runtime.transcription.requests import (
    Align,
    DetectLanguage,
    Encode,
    Explain,
    Logprobs,
    Request,
    Steps,
    ask,
)
from max_whisper.runtime.transcription.retries import with_retries
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler
from max_whisper.runtime.transcription.segments import cut, ends_in_one_timestamp
from max_whisper.runtime.transcription.text_before import TextBefore
from max_whisper.runtime.transcription.warnings import KEPT_TEXTS, Hearing, with_warnings
from max_whisper.runtime.transcription.window_places import WindowPlaces
from max_whisper.runtime.transcription.word_times import with_words
from max_whisper.runtime.vad.muted import MutedMel

RESET_TEMPERATURE = 0.5
"""The text of a window that was sampled at a higher temperature is not shown to the next one."""

Result = TypeVar("Result")
Asking = Generator[Request[Any], Any, Result]
"""Yields requests, is sent their answers, and returns a result."""


class Transcriber:
    """Goes through one recording: iterate over it for each window as soon as it is done, and ask for the result.

    Another iteration begins again at the first window, or behind those that `resume` was given.

    Attributes:
        language: The code of the language; "" until it is detected, which is done before the first window.
        windows: The windows that are done.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        manifest: WhisperManifest,
        tokenizer: Tokenizer,
        mel: LogMel | MutedMel,
        clips: Sequence[Clip],
        options: TranscribeOptions,
        decoding: DecodingOptions,
        language: str,
        caller: Caller | None = None,
    ) -> None:
        """Prepares a transcription; `Model.transcriber` makes it.

        mel: the spectrogram of the recording with a window of silence behind it. clips: the parts of the recording that
        are transcribed. language: a code, or "" to detect it.
        """
        self.language = language
        self.windows: list[Window] = []
        self._scheduler = scheduler
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._mel = mel
        self._clips = clips
        self._options = options
        self._decoding = decoding
        self._caller = caller or Caller()
        self._n_frames = manifest.dims["n_frames"]
        self._content = mel.frames - self._n_frames
        self._places = WindowPlaces(self._content, self._n_frames, manifest.tokens.timestamp_begin)
        self._done: list[list[Window]] = [[] for _ in clips]  # the windows of each clip that `resume` was given
        self._first_window: WindowFeatures | None = None  # where the language was detected
        self._last_speech = 0.0  # seconds at which the last word ended
        self._hearing = Hearing(mel, options)
        self._earlier: list[str] = []  # the texts of the last segments of this clip, those left out among them
        self._before = self._nothing_before()

    @property
    def seconds(self) -> float:
        """The duration of the recording in whole frames, in seconds."""
        return self._content / FRAMES_PER_SECOND

    @property
    def speech(self) -> list[tuple[float, float]] | None:
        """The parts in which speech was found, as start and end in seconds; None where it was not looked for."""
        return self._mel.speech if isinstance(self._mel, MutedMel) else None

    @property
    def segments(self) -> list[Segment]:
        """The segments of all windows so far."""
        return [segment for window in self.windows for segment in window.segments]

    def result(self) -> TranscriptionResult:
        """Returns the result for all windows so far."""
        segments = self.segments
        text = self._tokenizer.decode(token for segment in segments for token in segment.tokens)
        return TranscriptionResult(text, segments, self.language, [*self.windows], self._mel.seconds)

    def first_window(self) -> Floats:
        """Returns the spectrogram of the first window in which something is heard."""
        seek = self._mel.heard_from(0)
        return self._mel.part(seek, seek + self._n_frames)

    def progress(self, window: Window, index: int = 0) -> Progress:
        """Returns the progress when a window is done. index: the index of the recording in a batch."""
        message = f"transcribed {window.end:.0f} of {self.seconds:.0f} s"
        return Progress(message, window.end, self.seconds, "seconds", index)

    def resume(self, windows: Sequence[Window]) -> None:
        """Lets an interrupted transcription go on: iteration gives the windows behind those that are done.

        The windows and the result are then exactly those of a run that was not interrupted. The classes of results.py
        survive JSON, if msgspec writes and reads it.

        Args:
            windows: All windows that an earlier iteration gave, for the same recording, model and options.

        Raises:
            UserError: They are not the first windows of this recording with these options.
        """
        languages = {self.language} - {""} | {window.result.language for window in windows}
        if len(languages) > 1:
            raise UserError(f"windows: expected windows in one language, got {', '.join(sorted(languages))}")
        self._done = self._places.by_clip(windows, self._clips)
        self.language = next(iter(languages), "")

    def cancel(self) -> None:
        """Stops the transcription: whoever iterates over it gets Cancelled. May be called from any thread.

        A text that is being decoded ends at its next token; an encoder run that has begun is not cut short.
        """
        self._scheduler.cancel(self._caller)

    def __iter__(self) -> Iterator[Window]:
        self.windows, self._before, self._last_speech = [], self._nothing_before(), 0.0
        parts = self._parts()
        if len(parts) == 1:
            yield from self._drive([self.steps()])
            return
        for _ in drive(self._scheduler, [(self._caller, self._find_language())], 1):
            pass
        for part, done in zip(parts, self._done, strict=True):
            part._done = [done]
            part.language, part._first_window, part._hearing = self.language, self._first_window, self._hearing
            for window in done:
                self._add(window)
        for window in self._drive([part.steps() for part in parts]):
            self._add(window)
            yield window

    def steps(self) -> Steps[Window]:
        """Yields each window when it is done, and before it the requests whose answers it needs."""
        yield from self._find_language()
        for clip, done in zip(self._clips, self._done, strict=True):
            seek, self._earlier = clip.first, []
            for window in done:
                self._add(window)
                seek = self._places.after(window, clip)
            while seek < clip.last:
                window = yield from self._window(seek, self._places.length(seek, clip))
                self._add(window)
                yield window
                seek = self._places.after(window, clip)

    def _drive(self, transcriptions: Sequence[Steps[Window]]) -> Iterator[Window]:
        """Yields the windows of parts of the recording in their order."""
        callers = [(self._caller, steps) for steps in transcriptions]
        return in_order(drive(self._scheduler, callers, self._scheduler.batch), len(callers))

    def _parts(self) -> list[Transcriber]:
        """Returns a transcriber for each clip if no clip depends on the text of another, so that they share batches."""
        options = self._options
        if self._scheduler.batch == 1 or options.condition_on_previous_text or options.word_timestamps:
            return [self]
        if options.initial_prompt is not None and not options.carry_initial_prompt:  # only the first window sees it
            return [self]
        what = (self._scheduler, self._manifest, self._tokenizer, self._mel)
        how = (options, self._decoding, self.language, self._caller)
        return [Transcriber(*what, [clip], *how) for clip in self._clips] or [self]

    def _add(self, window: Window) -> None:
        """Adds a window that is done to the text so far, which is all that the next window depends on."""
        self.windows.append(window)
        self._last_speech = window.last_speech
        heard = sorted([*window.segments, *window.dropped], key=lambda segment: segment.start)
        self._earlier = [*self._earlier, *(segment.text.strip() for segment in heard)][-KEPT_TEXTS:]
        unseen = not window.skipped and (
            not self._options.condition_on_previous_text or window.result.temperature > RESET_TEMPERATURE
        )
        self._before.add([token for segment in window.segments for token in segment.tokens], unseen=unseen)

    def _nothing_before(self) -> TextBefore:
        return TextBefore(self._options, self._tokenizer, self._manifest.dims["n_text_ctx"])

    def _find_language(self) -> Asking[None]:
        """Detects the language in the first windows: the first that is probable enough, else the most frequent one."""
        if self.language:
            return
        detected: list[str] = []
        seek = 0
        for i in range(self._options.language_detection_segments):
            seek = self._mel.heard_from(seek)
            if seek >= self._content and i > 0:
                break
            features = yield from ask(Encode(self._mel.part(seek, seek + self._n_frames)))
            if i == 0 and self._content >= seek + self._n_frames:
                self._first_window = features
            probabilities = yield from ask(DetectLanguage(features))
            language, probability = next(iter(probabilities.items()))
            detected.append(language)
            if probability > self._options.language_detection_threshold:
                self.language = language
                return
            seek += self._n_frames
        self.language = Counter(detected).most_common(1)[0][0]

    def _window(self, seek: int, length: int) -> Asking[Window]:
        """Decodes the window that begins at the frame `seek` and has `length` frames before its padding."""
        start, end = self._places.times(seek, length)
        tokens, context = self._manifest.tokens, self._before.tokens
        features = yield from self._features(seek, length)
        results, attempts = yield from with_retries(features, self._options, lambda t: self._decoding_at(t, context))
        result = results[-1]
        overrides, logprobs = [], None
        if self._options.explain:
            overrides = yield from ask(Explain(features, result, self._decoding_at(result.temperature, context)))
        if self._options.token_logprobs:
            logprobs = yield from ask(Logprobs(features, result, self._decoding_at(result.temperature, context)))
        if is_silence(result, self._options):
            silent = Window(start, end, seek + length, [], attempts, result, "silence", overrides)
            return replace(silent, logprobs=logprobs, last_speech=self._last_speech)
        pieces, advance = cut(result.tokens, tokens.timestamp_begin, length)
        segments = [self._segment(seek, start + first, start + last, part, result) for first, last, part in pieces]
        if isinstance(self._mel, MutedMel):  # the next clip may begin before the time at which the model ends a text
            segments = [replace(one, end=min(one.end, end)) if one.start < end else one for one in segments]
        next_seek, skipped, last_speech = seek + (advance or length), "", self._last_speech
        if self._options.word_timestamps:
            text = [token for segment in segments for token in segment.tokens if token < tokens.eot]
            words = []
            if text:
                words = yield from ask(Align(features, text, self.language, self._decoding.task, length))
            position = WindowPosition(seek, length, self._n_frames, self._content, self._last_speech)
            closed = ends_in_one_timestamp(result.tokens, tokens.timestamp_begin)
            segments, next_seek, skipped = with_words(
                segments, words, position, self._options, eot=tokens.eot, next_seek=next_seek, closed=closed
            )
            if not skipped and (last := speech_end(segments)) is not None:
                last_speech = last
        heard = [segment for segment in segments if segment.start != segment.end and segment.text.strip()]
        heard = with_warnings(heard, self._earlier, self._hearing, end)
        suspect = [segment for segment in heard if self._options.drop_suspect and segment.warnings]
        kept = [segment for segment in heard if not (self._options.drop_suspect and segment.warnings)]
        return Window(start, end, next_seek, kept, attempts, result, skipped, overrides, suspect, logprobs, last_speech)

    def _features(self, seek: int, length: int) -> Asking[WindowFeatures]:
        """Returns the features of a window; those of the first are there already if its language was detected."""
        if self._first_window is not None and (seek, length) == (self._mel.heard_from(0), self._n_frames):
            return self._first_window
        mel = np.zeros((self._mel.n_mels, self._n_frames), np.float32)
        mel[:, :length] = self._mel.part(seek, seek + length)
        return (yield from ask(Encode(mel)))

    def _decoding_at(self, temperature: float, context: list[int]) -> DecodingOptions:
        """Returns the options of one attempt."""
        # An empty prompt is no prompt: openai/whisper leaves out start-of-previous as well.
        return replace(self._decoding.at(temperature), language=self.language, prompt=context or None)

    def _segment(self, seek: int, start: float, end: float, tokens: list[int], result: DecodingResult) -> Segment:
        text = self._tokenizer.decode(tokens)
        measures = (result.temperature, result.avg_logprob, result.compression_ratio, result.no_speech_prob)
        return Segment(seek, start, end, text, tokens, *measures)
