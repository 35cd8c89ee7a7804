"""The graphs of an artifact compiled once more, to give what its own do not: every layer, or the times of kernels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
from max.driver import CPU

from max_whisper.artifact.load import Artifact, start
from max_whisper.artifact.manifest import Manifest
from max_whisper.compile.modules import compile_modules
from max_whisper.lowering.calls import Call
from max_whisper.progress import OnProgress
from max_whisper.spec import Spec


def compile_again(
    folder: Path, manifest: Manifest, spec: Spec, *, progress: OnProgress, probe: bool = False, clocks: bool = False
) -> tuple[Artifact, dict[str, list[Call]]]:
    """An artifact for a CPU with other graphs and its own weights, and the kernels' calls of graphs with clocks.

    probe, clocks: see `compile_modules`. Raises CompileError where MAX fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        compiled = compile_modules(
            spec,
            Path(temporary),
            dtype=manifest.dtype,
            batch=manifest.batch,
            target=manifest.target,
            alignment_heads=manifest.alignment_heads,
            exact_halves=manifest.exact_halves,
            progress=progress,
            probe=probe,
            clocks=clocks,
        )
        other = msgspec.structs.replace(manifest, graphs=compiled.graphs)
        return start(folder, Path(temporary), other, CPU()), compiled.calls
