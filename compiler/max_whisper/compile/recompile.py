"""Compiles the graphs of an artifact again, with the outputs of every layer, or with the times of kernels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from max_whisper.artifact.load import Artifact, ManifestType, bind
from max_whisper.compile.modules import compile_modules
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.progress import OnProgress
from max_whisper.spec import Spec


def recompile(
    folder: Path,
    manifest: ManifestType,
    spec: Spec,
    *,
    progress: OnProgress,
    expose: bool = False,
    instrument: bool = False,
) -> tuple[Artifact[ManifestType], dict[str, list[KernelCall]]]:
    """Returns an artifact of the same plan and weights with other graphs, and the kernel calls of each graph.

    `expose` and `instrument` are those of `compile_modules`. Raises CompileError where MAX fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        compiled_folder = Path(temporary)
        compiled = compile_modules(
            manifest.plan, spec, compiled_folder, progress=progress, expose=expose, instrument=instrument
        )
        recompiled = msgspec.structs.replace(manifest, graphs=compiled.graphs)
        return bind(folder, compiled_folder, recompiled), compiled.calls
