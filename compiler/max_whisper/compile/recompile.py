"""Compiling an artifact's graphs once more, to give what its own do not: every layer, or the times of kernels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from max_whisper.artifact.load import Artifact, bind
from max_whisper.artifact.manifest import Manifest
from max_whisper.compile.modules import compile_modules
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.progress import OnProgress
from max_whisper.spec import Spec


def recompile(
    folder: Path,
    manifest: Manifest,
    spec: Spec,
    *,
    progress: OnProgress,
    expose: bool = False,
    instrument: bool = False,
) -> tuple[Artifact, dict[str, list[KernelCall]]]:
    """Returns an artifact of the same plan and weights with other graphs, and the kernels' calls by graph.

    expose, instrument: see `compile_modules`. Raises CompileError where MAX fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        compiled = compile_modules(manifest.plan, spec, place, progress=progress, expose=expose, instrument=instrument)
        other = msgspec.structs.replace(manifest, graphs=compiled.graphs)
        return bind(folder, place, other), compiled.calls
