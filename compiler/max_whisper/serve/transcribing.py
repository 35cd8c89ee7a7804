"""Transcribes a recording for a request, in the request's thread: decodes it, and takes a turn for each window."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from max_whisper.errors import UserError
from max_whisper.options import OptionError
from max_whisper.runtime.audio.load import open_audio
from max_whisper.runtime.audio.mel import Floats
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.runtime.decoding.languages import asked_language, language_code
from max_whisper.runtime.model import Model
from max_whisper.runtime.results import TranscriptionResult, Window
from max_whisper.runtime.transcription.checking import checked_options
from max_whisper.runtime.transcription.opening import spectrogram
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.runtime.transcription.requests import DetectLanguage, Encode
from max_whisper.runtime.transcription.scheduler import Caller
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.serve.errors import RequestError
from max_whisper.serve.pool import Entry
from max_whisper.serve.raw_sound import SAMPLE_BYTES, raw_recording
from max_whisper.serve.work import Work

OnWindow = Callable[[Transcriber, Window], None]
AT_ONCE = 2
"""The windows that a model computes at once if it has no batches: one uses the cores while another is between two
tokens. Two took 10 to 23 % less time than one after the other (base, int8, two cores)."""

LONGEST_TEXT = 20_000
"""The most characters of a prompt, or of all keywords. The model reads 223 tokens of them."""
SHORT_BYTES = 8 << 20
"""The bytes of a file up to which it is decoded beside the short ones, as long as it gives no more sound than they."""
SHORT_SAMPLES = 1800 * SAMPLE_RATE
"""The samples of a recording up to which it is decoded, and speech is found in it, beside the short ones."""
IN_MEMORY = 4 << 20
"""The bytes of a decoded recording that are kept in memory: two minutes. There may be as many as there are requests."""


def nothing(transcriber: Transcriber, window: Window) -> None:
    """Does nothing with a window."""


@dataclass
class Task:
    """A recording that is to be transcribed for a request; its methods are called in the request's thread.

    Attributes:
        work: The work of the request.
        entry: The model's place among those of the server.
        model: The model.
        computing: The seconds for which the model has computed so far, without those in which others had their turn.
    """

    work: Work
    entry: Entry
    model: Model
    computing: float = 0.0

    def check(self, options: TranscribeKeywords) -> None:
        """Raises UserError for options that are wrong, or that the model does not support, before any work is done.

        This counts the tokens of texts, so it belongs into the request's thread as well.
        """
        self.check_texts(options)
        if options.get("task") == "translate" and not self.model.multilingual:
            message = f"model: {self.entry.name} knows English alone, and cannot translate: choose another"
            raise RequestError(400, message, param="model")
        checked_options(options, self.model.manifest, self.model.tokenizer)

    def check_texts(self, options: Mapping[str, Any]) -> None:
        """Raises OptionError for a prompt or keywords that are too long, and a language that the model does not know.

        options: those of `Model.transcribe` or `Model.stream`.
        """
        for name in ("initial_prompt", "hotwords"):
            size = len(str(options.get(name) or ""))
            if size > LONGEST_TEXT:
                raise OptionError(f"{{{name}}}: expected at most {LONGEST_TEXT} characters, got {size}")
        if language := asked_language(options.get("language")):
            self.known_language(language, "language")

    def known_language(self, text: str, option: str) -> str:
        """Returns the code of a language. Raises OptionError, which names an option, where the model does not know it.

        text: a code, a locale or a name.
        """
        try:
            return language_code(text, self.model.manifest.tokens.languages or ("en",))
        except UserError as error:
            raise OptionError(f"{{{option}}}: {{reason}}", reason=error) from error

    def decode(self, file: BinaryIO, name: str) -> Recording:
        """Returns the sound of a file, decoded in a process of its own, whatever its name says.

        A small file may hold hours: one that gives more sound than SHORT_SAMPLES leaves its place to short ones, and
        waits for a place among the long ones. Its process waits meanwhile, because nobody reads what it writes.

        Raises AudioError for what is no sound or too long, Cancelled where the work is cancelled, and where there is no
        room for the sound RequestError or NoRoomError.
        """
        service, job = self.work.service, self.work.job
        longest = service.options.max_audio_seconds
        file.seek(0, os.SEEK_END)
        is_long, samples = file.tell() > SHORT_BYTES, 0
        with ExitStack() as place:
            place.enter_context(service.decoding(job, is_long))

            def kept(size: int) -> None:
                nonlocal is_long, samples
                samples += size // SAMPLE_BYTES
                if not is_long and samples > SHORT_SAMPLES:
                    is_long = True
                    place.close()
                    place.enter_context(service.decoding(job, is_long))
                self.work.decoded.take(size)

            recording = open_audio(
                file,
                isolated=True,
                name=name,
                max_seconds=longest,
                in_memory=IN_MEMORY,
                stop=lambda: job.cancelled,
                kept=kept,
            )
        self.work.held.callback(recording.close)  # the work waits for this thread before it closes what it holds
        return recording

    def read_raw(self, file: IO[bytes], name: str) -> Recording:
        """Returns the sound of a file of raw samples, which must stay open while the recording is read.

        Raises AudioError for no sample or too many; reading raises Cancelled where the work is cancelled.
        """
        job = self.work.job
        return raw_recording(file, name, self.work.service.options.max_audio_seconds, lambda: job.cancelled)

    def prepare(self, recording: Recording, options: TranscribeKeywords) -> Transcriber:
        """Returns the transcriber of a recording, for `transcribe_by`. It takes no turn.

        To find speech takes some seconds of computing for ten hours.

        Raises:
            UserError: The value of an option is wrong, or the model does not support it; or the voice detector is
                missing.
            Cancelled: The work was cancelled.
        """
        self.work.job.check()
        self.check(options)
        if not options.get("vad_filter"):
            return self.model.transcriber(recording, **options)
        with self.work.service.decoding(self.work.job, len(recording) > SHORT_SAMPLES):
            return self.model.transcriber(recording, **options)

    def transcribe(
        self, recording: Recording, options: TranscribeKeywords, on_window: OnWindow = nothing
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
        return self.transcribe_by(self.prepare(recording, options), on_window)

    def transcribe_by(self, transcriber: Transcriber, on_window: OnWindow = nothing) -> TranscriptionResult:
        """Returns the text that a transcriber from `prepare` finds, as `transcribe` does."""
        job, metrics = self.work.job, self.work.service.metrics
        withdraw = job.on_cancel(transcriber.cancel)
        self.computing = 0.0
        try:
            windows = iter(transcriber)
            while True:
                with self.turn():
                    began = time.monotonic()
                    window = next(windows, None)
                    self.computing += time.monotonic() - began
                if window is None:
                    break
                metrics.tokens.labels(self.entry.name).inc(len(window.result.tokens))
                on_window(transcriber, window)
        finally:
            withdraw()
            metrics.computing.labels(self.entry.name).inc(self.computing)
        result = transcriber.result()
        metrics.audio.labels(self.entry.name).inc(result.duration)
        if result.duration:
            metrics.real_time_factor.labels(self.entry.name).observe(self.computing / result.duration)
        return result

    def first_window(self, recording: Recording) -> Floats:
        """Returns the first window of a recording, for `detect_language`."""
        return spectrogram(recording, None, self.model.manifest).part(0, self.model.n_frames)

    def detect_language(self, window: Floats, among: Sequence[str] = ()) -> dict[str, float]:
        """Returns the probability of each language in a window, the most probable first.

        An English-only model hears English.

        Args:
            window: The spectrogram of the window.
            among: The languages that it can be, as codes or names; empty for all that the model knows.

        Raises:
            OptionError: The model does not know one of the languages.
            Cancelled: The work was cancelled.
        """
        model, job = self.model, self.work.job
        codes = [self.known_language(text, "languages") for text in among]
        if not model.multilingual:
            return {"en": 1.0}
        job.check()
        caller, scheduler = Caller(), model.scheduler
        withdraw = job.on_cancel(lambda: scheduler.cancel(caller))
        try:
            with self.turn():
                (features,) = scheduler.ask([Encode(window)], caller)
                (probabilities,) = scheduler.ask([DetectLanguage(features)], caller)
        finally:
            withdraw()
        wanted = {code: p for code, p in probabilities.items() if code in codes or not codes}
        total = sum(wanted.values()) or 1.0
        return {code: p / total for code, p in wanted.items()}

    def turn(self) -> AbstractContextManager[None]:
        """Returns the context of a turn, in which the model may compute."""
        return self.work.service.turns.take(self.work.job, self.entry.name, max(AT_ONCE, self.model.scheduler.batch))
