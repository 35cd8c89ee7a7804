"""Whisper as one readable YAML file, compiled ahead of time with MAX.

folder = max_whisper.build("tiny.yaml", weights="openai/whisper-tiny", out="artifacts/tiny")
model = max_whisper.load("artifacts/tiny")
print(model.transcribe("speech.flac", language="en").text)
"""

from __future__ import annotations

import os as _os
from os import PathLike as _PathLike

_os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "false")  # MAX reads it when it is imported

from pathlib import Path as _Path
from typing import Any as _Any
from typing import BinaryIO as _BinaryIO

from max_whisper.runtime.decoding import DecodingResult
from max_whisper.runtime.model import Model, load
from max_whisper.runtime.transcription import Segment, TranscriptionResult
from max_whisper.runtime.waveform import Waveform as _Waveform
from max_whisper.runtime.words import Word

__all__ = ["DecodingResult", "Model", "Segment", "TranscriptionResult", "Word", "build", "load", "load_audio"]


def build(spec: str | _Path, **options: _Any) -> _Path:
    """Compiles a spec with its weights to an artifact folder; see `max_whisper.artifact.build.build`.

    The compiler is imported here and not with the package: a loaded artifact runs without it.
    """
    from max_whisper.artifact.build import build

    return build(spec, **options)


def load_audio(source: str | _PathLike[str] | _BinaryIO) -> _Waveform:
    """The sound of an audio or video file, float32 [samples], 16 kHz mono; see `max_whisper.runtime.audio.load_audio`.

    FFmpeg is imported here and not with the package: who has a waveform already runs without it.
    """
    from max_whisper.runtime.audio import load_audio

    return load_audio(source)
