"""The class `Model`, a loaded artifact: methods for recordings here, and for single windows in `WindowModel`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from threading import Lock

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

from max_whisper.artifact.load import WhisperArtifact, open_artifact
from max_whisper.errors import ArtifactError, UserError
from max_whisper.options import OptionError, checked_integer, lists_options
from max_whisper.progress import OnProgress, check_progress, ignore_progress
from max_whisper.runtime.audio.waveform import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SAMPLE_RATE
from max_whisper.runtime.results import TranscriptionResult
from max_whisper.runtime.streaming.opening import open_stream
from max_whisper.runtime.streaming.options import (
    NOT_FOR_STREAMS,
    WITHOUT_SILERO,
    StreamKeywords,
    checked_stream_options,
)
from max_whisper.runtime.streaming.options import OPTION_CLASSES as STREAM_OPTIONS
from max_whisper.runtime.streaming.stream import Stream
from max_whisper.runtime.transcription.batch import BatchTranscriber
from max_whisper.runtime.transcription.checking import checked_options
from max_whisper.runtime.transcription.opening import Audio, RecordingOptions, open_transcriber
from max_whisper.runtime.transcription.options import RECORDING_OPTIONS, TranscribeKeywords
from max_whisper.runtime.transcription.scheduler import Caller
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.runtime.vad.detector import VoiceDetector, load_detector
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

    def __init__(self, artifact: WhisperArtifact) -> None:
        """Takes an artifact that `open_artifact` returned."""
        super().__init__(artifact)
        self._detectors: dict[Path, VoiceDetector] = {}  # those in use, by their folders
        self._finding_detector = Lock()

    @lists_options(*RECORDING_OPTIONS, leave_out=("prompt",))
    def transcribe(
        self, audio: Audio, *, progress: OnProgress = ignore_progress, **options: Unpack[TranscribeKeywords]
    ) -> TranscriptionResult:
        """Returns the text of a whole recording, with the times of its segments (openai/whisper, transcribe.py).

        Args:
            audio: A path ("-" is stdin), an open binary file, a 16 kHz mono waveform, or what `open_audio` returned.
            progress: Called after each window with the seconds of the recording that are done, and their total; and
                with each step of building the voice detector, where `vad_filter` needs it for the first time.
            **options: Those of `TranscribeOptions`, `PartOptions` and `DecodingOptions`, which explain them.

        Raises:
            AudioError: The recording cannot be read.
            UserError: The value of an option is wrong, or the model does not support it.
        """
        check_progress(progress)
        transcriber = self._transcriber(audio, Caller(), self._options(options, progress))
        for window in transcriber:
            progress(transcriber.progress(window))
        return transcriber.result()

    @lists_options(*RECORDING_OPTIONS, leave_out=("prompt",))
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
        for event in self._batch(audios, self._options(options, progress)):
            if event.error is not None:
                raise event.error
            if event.transcriber is not None and event.window is not None:
                progress(event.transcriber.progress(event.window, event.index))
            if event.transcriber is not None and event.kind == "ended":
                results[event.index] = event.transcriber.result()
        return [results[index] for index in range(len(audios))]

    @lists_options(*RECORDING_OPTIONS, leave_out=("prompt",))
    def transcriber(self, audio: Audio, **options: Unpack[TranscribeKeywords]) -> Transcriber:
        """Returns an object to iterate over, which gives each window of a recording as soon as it is decoded.

        Args:
            audio: The recording, as for `transcribe`. It is read at once, and the voice detector is built first, if
                `vad_filter` needs it for the first time.
            **options: As for `transcribe`.

        Raises:
            AudioError: The recording cannot be read.
            UserError: The value of an option is wrong, or the model does not support it.
        """
        return self._transcriber(audio, Caller(), self._options(options))

    @lists_options(*RECORDING_OPTIONS, leave_out=("prompt",))
    def batch(self, audios: Sequence[Audio], **options: Unpack[TranscribeKeywords]) -> BatchTranscriber:
        """Returns an object to iterate over, which gives each `BatchEvent` of several recordings as it happens.

        A recording is read when its turn comes, and one that fails does not keep the others from being transcribed.

        Args:
            audios: The recordings, as for `transcribe`.
            **options: As for `transcribe`.

        Raises:
            UserError: The value of an option is wrong, or the model does not support it.
        """
        return self._batch(audios, self._options(options))

    @lists_options(*STREAM_OPTIONS, leave_out=NOT_FOR_STREAMS)
    def stream(
        self,
        *,
        sample_rate: int = SAMPLE_RATE,
        progress: OnProgress = ignore_progress,
        **options: Unpack[StreamKeywords],
    ) -> Stream:
        """Returns an object that takes sound chunk by chunk, and tells what is said while it is said.

        Phrases end at pauses. The final text of each is that of `decode` for the sound of the phrase and the text
        before it.

        Args:
            sample_rate: The samples of a second of what the stream is fed, 1,000 to 768,000.
            progress: Called with each step of building the voice detector, where it is needed for the first time.
            **options: Those of `StreamOptions`, `TranscribeOptions` and `DecodingOptions`, which explain them.

        Raises:
            UserError: The value of an option is wrong, or the model does not support it.
        """
        check_progress(progress)
        rate = checked_integer("sample_rate", sample_rate, low=MIN_SAMPLE_RATE, high=MAX_SAMPLE_RATE)
        self._artifact.check()
        checked = checked_stream_options(options, self.manifest, self.tokenizer)
        streaming = checked[0]
        wanted = streaming.endpoints == "silero"
        detector = self._detector(streaming.vad_model, progress, WITHOUT_SILERO) if wanted else None
        return open_stream(self.scheduler, self.manifest, self.tokenizer, detector, checked, rate)

    def _batch(self, audios: Sequence[Audio], options: RecordingOptions) -> BatchTranscriber:
        if isinstance(audios, str | bytes | PathLike) or not isinstance(audios, Sequence):
            raise UserError(f"audios: expected a list of recordings, got a {type(audios).__name__}")
        return BatchTranscriber(self.scheduler, lambda audio, caller: self._transcriber(audio, caller, options), audios)

    def _transcriber(self, audio: Audio, caller: Caller, options: RecordingOptions) -> Transcriber:
        """Reads a recording, which takes a minute for one of ten hours, and returns its transcriber."""
        self._artifact.check()
        return open_transcriber(audio, options, self.scheduler, self.manifest, self.tokenizer, caller)

    def _options(self, keywords: TranscribeKeywords, progress: OnProgress = ignore_progress) -> RecordingOptions:
        """Returns the options of a call, with the model's default values filled in; raises UserError for wrong ones."""
        if "prompt" in keywords:
            raise OptionError("{prompt}: belongs to one window; give the text before the recording as {initial_prompt}")
        options, parts, decoding = checked_options(keywords, self.manifest, self.tokenizer)
        detector = self._detector(parts.vad_model, progress) if parts.detector == "silero" else None
        return RecordingOptions(options, parts, decoding, detector)

    def _detector(
        self, named: str | PathLike[str] | None, progress: OnProgress, instead: str | None = None
    ) -> VoiceDetector:
        """Returns the model that finds speech, in a folder or Silero VAD; it is loaded once, and built if need be."""
        # Only here: it imports subprocess and OpenSSL, which take 5 ms of the time to a first text.
        from max_whisper.runtime.vad.cached import BY_LOUDNESS, find_detector

        with self._finding_detector:
            folder = find_detector(named, progress, instead or BY_LOUDNESS)
            if folder not in self._detectors:
                try:
                    detector = load_detector(folder)
                except UserError as e:
                    raise OptionError("{vad_model}: {reason}", reason=e) from e
                except ArtifactError as e:
                    if named is not None:
                        raise
                    raise ArtifactError(f"{e} (or remove {folder}, which is then made again)") from e
                if detector.sample_rate != SAMPLE_RATE:
                    raise OptionError(
                        "{vad_model}: expected a detector for {expected} Hz, {folder} is for {got} Hz",
                        expected=SAMPLE_RATE,
                        folder=folder,
                        got=detector.sample_rate,
                    )
                self._detectors[folder] = detector
            return self._detectors[folder]
