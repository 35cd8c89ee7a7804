"""Opens a recording for transcription: reads it, computes its spectrogram, and cuts it into clips."""

from __future__ import annotations

from os import PathLike
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.options import OptionError
from max_whisper.runtime.audio.mel import HOP, LogMel, Samples
from max_whisper.runtime.audio.vad import voice
from max_whisper.runtime.audio.waveform import check_waveform
from max_whisper.runtime.decoding.languages import language_code
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler
from max_whisper.runtime.transcription.segments import clips_of
from max_whisper.runtime.transcription.transcriber import Transcriber

Audio: TypeAlias = str | PathLike[str] | BinaryIO | NDArray[Any]
"""A path ("-" is standard input), an open binary file, or a 16 kHz mono waveform [samples]."""


def open_transcriber(
    audio: Audio,
    options: TranscribeOptions,
    decoding: DecodingOptions,
    scheduler: Scheduler,
    manifest: WhisperManifest,
    tokenizer: Tokenizer,
    caller: Caller,
) -> Transcriber:
    """Reads a recording, which takes a minute for one of ten hours, and returns its transcriber.

    Raises AudioError where the recording cannot be read, UserError for clips behind its end.
    """
    n_frames = manifest.dims["n_frames"]
    mel = spectrogram(audio, options.audio_track, manifest)
    content = mel.frames - n_frames
    if options.vad_filter:
        clips = voice(
            mel,
            content,
            n_frames,
            threshold=options.vad_threshold,
            min_silence=options.vad_min_silence,
            speech_pad=options.vad_speech_pad,
        )
    else:
        clips = clips_of(options, content)
    language = decoding.language or ("" if tokenizer.multilingual else "en")  # "" is to be detected
    if language:
        language = language_code(language, manifest.tokens.languages or ("en",))
    return Transcriber(scheduler, manifest, tokenizer, mel, clips, options, decoding, language, caller)


def spectrogram(audio: Audio, audio_track: int | None, manifest: WhisperManifest) -> LogMel:
    """Returns the log-mel spectrogram of a recording with a window of silence behind it."""
    return LogMel(_samples(audio, audio_track), manifest.dims["n_mels"], padding=manifest.dims["n_frames"] * HOP)


def _samples(audio: Audio, track: int | None) -> Samples:
    """Returns the samples of a recording. FFmpeg is imported when there is a file to decode: it takes 45 ms, 19 MB."""
    if isinstance(audio, np.ndarray):
        if track is not None:
            raise OptionError("{audio_track}: is for files, a waveform has no tracks; leave it out")
        return check_waveform(audio)
    from max_whisper.runtime.audio.load import open_audio

    return open_audio(audio, track=track)
