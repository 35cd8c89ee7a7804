"""The class `Model`, a loaded artifact: methods for recordings here, and for single windows in `WindowModel`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

from max_whisper.artifact.load import open_artifact
from max_whisper.errors import UserError
from max_whisper.options import OptionError, lists_options, options_of
from max_whisper.progress import OnProgress, check_progress, ignore_progress
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.results import TranscriptionResult
from max_whisper.runtime.transcription.batch import BatchTranscriber
from max_whisper.runtime.transcription.opening import Audio, open_transcriber
from max_whisper.runtime.transcription.options import TranscribeKeywords, TranscribeOptions
from max_whisper.runtime.transcription.scheduler import Caller
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.runtime.window_model import WindowModel


def load(folder: str | PathLike[str]) -> Model:
    """Returns the model in an artifact folder, checked as a whole; it may be used from several threads.

    A process that is forked later can neither use the model nor load another: load it in the child alone, or start the
    child by multiprocessing's "spawn". An artifact is code: load only what you trust.

    Args:
        folder: The folder of the artifact, which `build` returned.

    Returns:
        The model. Each of its methods raises ArtifactError where a file of the artifact was changed in place, and
        ForkError in a forked process.

    Raises:
        UserError: There is no artifact.
        ArtifactError: The artifact is damaged, or not for this machine or this MAX.
        ForkError: The process was forked from one that had loaded a model.
    """
    return Model(open_artifact(folder))


class Model(WindowModel):
    """A compiled Whisper model. It may be used from several threads, whose windows share batches."""

    @lists_options(TranscribeOptions, DecodingOptions, leave_out=("prompt",))
    def transcribe(
        self, audio: Audio, *, progress: OnProgress = ignore_progress, **options: Unpack[TranscribeKeywords]
    ) -> TranscriptionResult:
        """Returns the text of a whole recording, with the times of its segments (openai/whisper, transcribe.py).

        Args:
            audio: A path ("-" is stdin), an open binary file, or a 16 kHz mono waveform.
            progress: Called after each window with the seconds of the recording that are done, and their total.
            **options: Those of `TranscribeOptions` and `DecodingOptions`, which explain them.

        Raises:
            AudioError: The recording cannot be read.
            UserError: The value of an option is wrong, or the model does not support it.
        """
        check_progress(progress)
        transcriber = self.transcriber(audio, **options)
        for window in transcriber:
            progress(transcriber.progress(window))
        return transcriber.result()

    @lists_options(TranscribeOptions, DecodingOptions, leave_out=("prompt",))
    def transcribe_batch(
        self, audios: Sequence[Audio], *, progress: OnProgress = ignore_progress, **options: Unpack[TranscribeKeywords]
    ) -> list[TranscriptionResult]:
        """Returns the text of each recording, the same as `transcribe` returns for it.

        As many recordings are transcribed at once as the artifact has rows in a batch. `batch` goes on where one of
        them fails, and gives the text of each window as it comes.

        Args:
            audios: The recordings, as for `transcribe`.
            progress: Called after each window, with the index of its recording.
            **options: As for `transcribe`.

        Raises:
            AudioError: A recording cannot be read. Nothing is returned then, and the others are not finished.
            UserError: The value of an option is wrong, or the model does not support it.
        """
        check_progress(progress)
        results: dict[int, TranscriptionResult] = {}
        for event in self.batch(audios, **options):
            if event.error is not None:
                raise event.error
            if event.transcriber is not None and event.window is not None:
                progress(event.transcriber.progress(event.window, event.index))
            if event.transcriber is not None and event.kind == "ended":
                results[event.index] = event.transcriber.result()
        return [results[index] for index in range(len(audios))]

    @lists_options(TranscribeOptions, DecodingOptions, leave_out=("prompt",))
    def transcriber(self, audio: Audio, **options: Unpack[TranscribeKeywords]) -> Transcriber:
        """Returns an object to iterate over, which gives each window of a recording as soon as it is decoded.

        Args:
            audio: The recording, as for `transcribe`. It is read at once.
            **options: As for `transcribe`.

        Raises:
            AudioError: The recording cannot be read.
            UserError: The value of an option is wrong, or the model does not support it.
        """
        return self._transcriber(audio, Caller(), *self._options(options))

    @lists_options(TranscribeOptions, DecodingOptions, leave_out=("prompt",))
    def batch(self, audios: Sequence[Audio], **options: Unpack[TranscribeKeywords]) -> BatchTranscriber:
        """Returns an object to iterate over, which gives each `BatchEvent` of several recordings as it happens.

        A recording is read when its turn comes, and one that fails does not keep the others from being transcribed.

        Args:
            audios: The recordings, as for `transcribe`.
            **options: As for `transcribe`.

        Raises:
            UserError: The value of an option is wrong, or the model does not support it.
        """
        transcribe, decoding = self._options(options)
        if isinstance(audios, str | bytes | PathLike) or not isinstance(audios, Sequence):
            raise UserError(f"audios: expected a list of recordings, got a {type(audios).__name__}")
        return BatchTranscriber(
            self.scheduler, lambda audio, caller: self._transcriber(audio, caller, transcribe, decoding), audios
        )

    def _transcriber(
        self, audio: Audio, caller: Caller, options: TranscribeOptions, decoding: DecodingOptions
    ) -> Transcriber:
        """Reads a recording, which takes a minute for one of ten hours, and returns its transcriber."""
        self._artifact.check()
        return open_transcriber(audio, options, decoding, self.scheduler, self.manifest, self.tokenizer, caller)

    def _options(self, keywords: TranscribeKeywords) -> tuple[TranscribeOptions, DecodingOptions]:
        """Returns the options of a call, with the model's default values filled in; raises UserError for wrong ones."""
        if "prompt" in keywords:
            raise OptionError("{prompt}: belongs to one window; give the text before the recording as {initial_prompt}")
        options, decoding = options_of(keywords, TranscribeOptions, DecodingOptions)
        options = options.of_model(self.manifest, self.tokenizer)
        for temperature in options.temperatures:
            decoding.at(temperature).check(self.manifest, self.tokenizer)
        return options, decoding
