"""Transcribes a recording for a request, in the request's thread: decodes it, and takes a turn for each window."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from max_whisper.runtime.audio.load import open_audio
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.model import Model
from max_whisper.runtime.results import TranscriptionResult, Window
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.serve.pool import Entry
from max_whisper.serve.service import Work

OnWindow = Callable[[Transcriber, Window], None]


@dataclass
class Task:
    """A recording that is to be transcribed for a request; its methods are called in the request's thread.

    Attributes:
        work: The work of the request.
        entry: The model's place among those of the server.
        model: The model.
    """

    work: Work
    entry: Entry
    model: Model

    def decode(self, file: BinaryIO, name: str) -> Recording:
        """Returns the sound of a file, decoded in a process of its own, whatever its name says.

        Raises AudioError for what is no sound or too long, Cancelled where the work is cancelled.
        """
        service, job = self.work.service, self.work.job
        with service.decoding.take(job, "decoding", service.decoders):
            longest = service.options.max_audio_seconds
            return open_audio(file, isolated=True, name=name, max_seconds=longest, stop=lambda: job.cancelled)

    def transcribe(
        self, recording: Recording, options: TranscribeKeywords, on_window: OnWindow = lambda transcriber, window: None
    ) -> TranscriptionResult:
        """Returns the text of a recording, the same as `Model.transcribe` returns for it.

        Args:
            recording: The sound.
            options: Those of `Model.transcribe`.
            on_window: Called with each window when it is accepted.

        Raises:
            UserError: The value of an option is wrong, or the model does not support it.
            Cancelled: The work was cancelled.
        """
        job, metrics = self.work.job, self.work.service.metrics
        job.check()
        transcriber = self.model.transcriber(recording, **options)
        withdraw = job.on_cancel(transcriber.cancel)
        computing = 0.0
        try:
            windows = iter(transcriber)
            while True:
                with self._turn():
                    began = time.monotonic()
                    window = next(windows, None)
                    computing += time.monotonic() - began
                if window is None:
                    break
                metrics.tokens.labels(self.entry.name).inc(len(window.result.tokens))
                on_window(transcriber, window)
        finally:
            withdraw()
            metrics.computing.labels(self.entry.name).inc(computing)
        result = transcriber.result()
        metrics.audio.labels(self.entry.name).inc(result.duration)
        if result.duration:
            metrics.real_time_factor.labels(self.entry.name).observe(computing / result.duration)
        return result

    def _turn(self) -> AbstractContextManager[None]:
        """Returns the context of a turn, in which the model may compute."""
        return self.work.service.turns.take(self.work.job, self.entry.name, self.model.scheduler.batch)
