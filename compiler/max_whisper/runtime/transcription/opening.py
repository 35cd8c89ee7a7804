"""Opens a recording for transcription: reads it, computes its spectrogram, and cuts it into clips."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.options import OptionError
from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, HOP, LogMel, Samples
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.audio.waveform import check_waveform
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.transcription.clips import JOINED_WINDOWS, Clip, named_clips, speech_clips
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.runtime.vad.detector import VoiceDetector
from max_whisper.runtime.vad.loudness import loud_frames
from max_whisper.runtime.vad.muted import MutedMel
from max_whisper.runtime.vad.speech import speech_parts, up_to_ends

Audio: TypeAlias = str | PathLike[str] | BinaryIO | NDArray[Any] | Recording
"""A path ("-" is standard input), an open binary file, a 16 kHz mono waveform [samples], or a decoded recording."""


@dataclass(frozen=True)
class RecordingOptions:
    """The options of the transcription of a recording.

    Attributes:
        transcribe: How its windows are transcribed.
        parts: Which parts of it are transcribed.
        decoding: How the text of a window is chosen.
        detector: The model that finds the parts with speech; None where `parts` asks for none.
    """

    transcribe: TranscribeOptions
    parts: PartOptions
    decoding: DecodingOptions
    detector: VoiceDetector | None


def open_transcriber(
    audio: Audio,
    options: RecordingOptions,
    scheduler: Scheduler,
    manifest: WhisperManifest,
    tokenizer: Tokenizer,
    caller: Caller,
) -> Transcriber:
    """Reads a recording, which takes a minute for one of ten hours, and returns its transcriber.

    Raises AudioError where the recording cannot be read, UserError for clips behind its end.
    """
    samples = _samples(audio, options.parts.audio_track)
    mel, clips = _with_clips(samples, _spectrogram(samples, manifest), manifest.dims["n_frames"], options)
    decoding = options.decoding
    language = decoding.language or ("" if tokenizer.multilingual else "en")  # "" is to be detected
    if language:
        language = language_code(language, manifest.tokens.languages or ("en",))
    return Transcriber(scheduler, manifest, tokenizer, mel, clips, options.transcribe, decoding, language, caller)


def _with_clips(
    samples: Samples, mel: LogMel, n_frames: int, options: RecordingOptions
) -> tuple[LogMel | MutedMel, list[Clip]]:
    """Returns what the model hears of a recording, and the clips that are transcribed. n_frames: of a window."""
    parts, content = options.parts, mel.frames - n_frames
    if parts.detector is None:
        return mel, named_clips(parts.clip_times, content)
    if options.detector is not None:
        probabilities, chunk = options.detector.probabilities(samples), options.detector.n_samples
    else:
        loud = loud_frames(mel.loudness, parts.vad_loudness)
        probabilities, chunk = loud.astype(np.float32), HOP
    found = speech_parts(probabilities, len(samples), chunk, parts.speech)
    found = up_to_ends(found, len(samples), parts.speech)
    seconds = parts.vad_max_speech_duration_s
    longest = JOINED_WINDOWS * n_frames if seconds is None else seconds * FRAMES_PER_SECOND
    return MutedMel(mel, found), speech_clips(found, content, longest)


def spectrogram(audio: Audio, audio_track: int | None, manifest: WhisperManifest) -> LogMel:
    """Returns the log-mel spectrogram of a recording with a window of silence behind it."""
    return _spectrogram(_samples(audio, audio_track), manifest)


def _spectrogram(samples: Samples, manifest: WhisperManifest) -> LogMel:
    return LogMel(samples, manifest.dims["n_mels"], padding=manifest.dims["n_frames"] * HOP)


def _samples(audio: Audio, track: int | None) -> Samples:
    """Returns the samples of a recording. FFmpeg is imported when there is a file to decode: it takes 45 ms, 19 MB."""
    if isinstance(audio, np.ndarray | Recording):
        if track is not None:
            raise OptionError("{audio_track}: is for files, a waveform has no tracks; leave it out")
        return audio if isinstance(audio, Recording) else check_waveform(audio)
    from max_whisper.runtime.audio.load import open_audio

    return open_audio(audio, track=track)
