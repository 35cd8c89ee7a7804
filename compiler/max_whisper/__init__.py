"""Whisper as one readable YAML file, compiled ahead of time with MAX.

folder = max_whisper.build("tiny.yaml", weights="openai/whisper-tiny", out="artifacts/tiny")
model = max_whisper.load(folder)
print(model.transcribe("speech.flac", language="en").text)
"""

from __future__ import annotations

import os as _os
from os import PathLike as _PathLike
from pathlib import Path as _Path
from typing import TYPE_CHECKING
from typing import Any as _Any
from typing import BinaryIO as _BinaryIO

from max_whisper.errors import (
    ArtifactError,
    AudioError,
    Cancelled,
    CompileError,
    ForkError,
    HubError,
    MaxWhisperError,
    NoRoomError,
    SpecError,
    UserError,
    WeightsError,
)
from max_whisper.progress import OnProgress, Progress
from max_whisper.progress import ignore_progress as _ignore_progress

if TYPE_CHECKING:
    from max_whisper.batch.api import transcribe_archive
    from max_whisper.batch.summary import BatchSummary
    from max_whisper.runtime.audio.load import open_audio
    from max_whisper.runtime.audio.waveform import Waveform as _Waveform
    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.features import Features
    from max_whisper.runtime.model import Model
    from max_whisper.runtime.output.options import SubtitleOptions
    from max_whisper.runtime.output.writers import render, write
    from max_whisper.runtime.results import (
        Attempt,
        DecodingResult,
        Segment,
        SegmentWarning,
        TranscriptionResult,
        Window,
        Word,
    )
    from max_whisper.runtime.streaming.events import StreamEvent
    from max_whisper.runtime.streaming.options import StreamOptions
    from max_whisper.runtime.streaming.stream import Stream
    from max_whisper.runtime.transcription.batch import BatchEvent, BatchTranscriber
    from max_whisper.runtime.transcription.options import TranscribeOptions
    from max_whisper.runtime.transcription.part_options import PartOptions
    from max_whisper.runtime.transcription.transcriber import Transcriber
    from max_whisper.runtime.vad.detector import VoiceDetector, VoiceStream, load_detector
    from max_whisper.spec import Spec, load_spec
    from max_whisper.tools.inspect import inspect
    from max_whisper.tools.verify.verify import VerifyReport, verify

_os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "false")  # MAX reads it when it is imported

__version__: str

__all__ = [
    "ArtifactError",
    "Attempt",
    "AudioError",
    "BatchEvent",
    "BatchSummary",
    "BatchTranscriber",
    "Cancelled",
    "CompileError",
    "DecodingOptions",
    "DecodingResult",
    "Features",
    "ForkError",
    "HubError",
    "MaxWhisperError",
    "Model",
    "NoRoomError",
    "OnProgress",
    "PartOptions",
    "Progress",
    "Segment",
    "SegmentWarning",
    "Spec",
    "SpecError",
    "Stream",
    "StreamEvent",
    "StreamOptions",
    "SubtitleOptions",
    "TranscribeOptions",
    "Transcriber",
    "TranscriptionResult",
    "UserError",
    "VerifyReport",
    "VoiceDetector",
    "VoiceStream",
    "WeightsError",
    "Window",
    "Word",
    "__version__",
    "build",
    "inspect",
    "load",
    "load_audio",
    "load_detector",
    "load_spec",
    "open_audio",
    "render",
    "transcribe_archive",
    "verify",
    "write",
]


_HOMES = {
    "Attempt": "max_whisper.runtime.results",
    "BatchEvent": "max_whisper.runtime.transcription.batch",
    "BatchSummary": "max_whisper.batch.summary",
    "BatchTranscriber": "max_whisper.runtime.transcription.batch",
    "DecodingOptions": "max_whisper.runtime.decoding.options",
    "DecodingResult": "max_whisper.runtime.results",
    "Features": "max_whisper.runtime.features",
    "Model": "max_whisper.runtime.model",
    "PartOptions": "max_whisper.runtime.transcription.part_options",
    "Segment": "max_whisper.runtime.results",
    "SegmentWarning": "max_whisper.runtime.results",
    "Spec": "max_whisper.spec",
    "Stream": "max_whisper.runtime.streaming.stream",
    "StreamEvent": "max_whisper.runtime.streaming.events",
    "StreamOptions": "max_whisper.runtime.streaming.options",
    "SubtitleOptions": "max_whisper.runtime.output.options",
    "TranscribeOptions": "max_whisper.runtime.transcription.options",
    "Transcriber": "max_whisper.runtime.transcription.transcriber",
    "TranscriptionResult": "max_whisper.runtime.results",
    "VerifyReport": "max_whisper.tools.verify.verify",
    "VoiceDetector": "max_whisper.runtime.vad.detector",
    "VoiceStream": "max_whisper.runtime.vad.detector",
    "Window": "max_whisper.runtime.results",
    "Word": "max_whisper.runtime.results",
    "inspect": "max_whisper.tools.inspect",
    "load_detector": "max_whisper.runtime.vad.detector",
    "load_spec": "max_whisper.spec",
    "open_audio": "max_whisper.runtime.audio.load",
    "render": "max_whisper.runtime.output.writers",
    "transcribe_archive": "max_whisper.batch.api",
    "verify": "max_whisper.tools.verify.verify",
    "write": "max_whisper.runtime.output.writers",
}


def __getattr__(name: str) -> _Any:
    """Returns a class or a function from its module, or `__version__`; it is called on the first use of the name.

    Importing the package therefore does not import MAX, which takes a quarter of a second: `max-whisper --help` does
    not need it, and Ctrl-C is handled before that import begins.
    """
    if name == "__version__":
        from importlib.metadata import version

        value: _Any = version("max-whisper")
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(folder: str | _PathLike[str]) -> Model:
    """Returns the model in an artifact folder, checked as a whole; it may be used from several threads.

    An artifact is code: load only what you trust.

    Args:
        folder: The folder that `build` returned.

    Raises:
        UserError: There is no artifact.
        ArtifactError: The artifact is damaged, or not for this machine or this version of MAX.
        ForkError: The process was forked from one that had loaded a model.
    """
    from max_whisper.runtime.model import load

    return load(folder)


def build(
    spec: str | _Path,
    *,
    weights: str | _Path | None = None,
    out: str | _Path | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    target: str = "cpu",
    kernels: str | None = None,
    batch: int = 1,
    force: bool = False,
    offline: bool = False,
    progress: OnProgress = _ignore_progress,
) -> _Path:
    """Compiles a spec with its weights to an artifact folder, and returns the folder.

    However it ends, the folder is the old one or the complete new one.

    Args:
        spec: A YAML file, or the name of a spec that ships with the package.
        weights: A Hub repository, one file of a repository ("ggerganov/whisper.cpp/ggml-base.bin"), or a folder or file
            here, in the format of transformers (safetensors), faster-whisper (CTranslate2) or whisper.cpp (ggml); None
            is the source in the spec.
        out: The folder; None is `artifacts/` and the spec's file name, with dtype, target and kernels unless they are
            the default.
        revision: The branch, tag or commit of the Hub repository; None is the one in the spec for the spec's own
            repository, else the main branch.
        dtype: The dtype of the weights of matrix products. "float32" gives exactly openai/whisper's tokens; "bfloat16"
            and "int8", which are for CPUs, make the artifact smaller, and keep the words. Which is the fastest depends
            on the CPU. None is "int8" for a CPU with AVX-512 VNNI, and "float32" for any other target and with the
            kernels "max".
        target: The machine to compile for: "cpu" is this one; "cpu:x86-64-v3", "cuda:sm_90a", "hip:gfx942" and others
            are cross-compiled.
        kernels: "ours" for this package's own kernels, which are for CPUs, or "max" for MAX's ops alone, in float32 and
            bfloat16; None is "ours" for a CPU and "max" for a GPU.
        batch: The number of windows that are computed at once.
        force: Whether to replace an artifact that is already there.
        offline: Whether to use only what is in the Hub's cache.
        progress: Called after each phase, and once a second during downloads.

    Returns:
        The folder.

    Raises:
        UserError: The input is wrong (SpecError and WeightsError among them); nothing was compiled.
        HubError: The Hub failed.
        CompileError: MAX could not compile a graph.
        MaxWhisperError: Anything else failed, such as the disk.
    """
    # Imported here and not with the package: a loaded artifact runs without the compiler.
    from max_whisper.compile.build import build

    return build(
        spec,
        weights=weights,
        out=out,
        revision=revision,
        dtype=dtype,
        target=target,
        kernels=kernels,
        batch=batch,
        force=force,
        offline=offline,
        progress=progress,
    )


def load_audio(source: str | _PathLike[str] | _BinaryIO, *, track: int | None = None) -> _Waveform:
    """Reads an audio track of an audio or video file, all at once; `open_audio` reads it part by part.

    Args:
        source: A path, "-" for standard input, or an open binary file.
        track: Which of several audio tracks, from 0; None as for `open_audio`.

    Returns:
        The sound, float32 [samples], mono, 16 kHz, in [-1, 1).

    Raises:
        AudioError: The file cannot be read.
    """
    # Imported here and not with the package: a program that has waveforms already does not need FFmpeg.
    from max_whisper.runtime.audio.load import load_audio

    return load_audio(source, track=track)
