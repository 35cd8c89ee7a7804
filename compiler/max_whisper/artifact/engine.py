"""Loads compiled graphs into MAX, and runs them.

`max.engine` also imports the graph builder, which takes as long as everything else that a loaded artifact needs of MAX.
So this uses the classes that it wraps. They are not part of MAX's public interface: pyproject.toml pins the version,
and an artifact is refused by any version but the one that compiled it (load.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from max._core import __version__ as MAX_VERSION
from max._core.engine import InferenceSession, Model, read
from max.driver import CPU, Buffer, Device

from max_whisper.artifact.cores import core_sharing
from max_whisper.artifact.process import inside_max

__all__ = ["MAX_VERSION", "CompiledGraph", "Executable", "load_graphs"]


class Executable(Protocol):
    """A graph that can be run."""

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """Runs the graph, and returns its outputs."""
        ...


class CompiledGraph:
    """A graph that MAX has loaded."""

    def __init__(self, model: Model, core_sharing: AbstractContextManager[None]) -> None:
        """Wraps MAX's own object; each execution enters `core_sharing`."""
        self._model = model
        self._core_sharing = core_sharing
        inside_max.keep_in_forks(self)

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """Runs the graph, and returns its outputs."""
        with inside_max, self._core_sharing:
            outputs: list[Buffer] = self._model._execute_device_tensors(inputs)
        return outputs

    def ports(self) -> list[list[tuple[str, tuple[int | None, ...]]]]:
        """Returns the dtype and the shape of each input and of each output, with None for a dimension that varies."""
        specs = (self._model.input_metadata, self._model.output_metadata)
        return [[(spec.dtype.name, tuple(spec.shape)) for spec in ports] for ports in specs]


def load_graphs(files: Iterable[Path], device: Device, weights: Mapping[str, Buffer]) -> dict[str, CompiledGraph]:
    """Returns the graphs of MEF files, by name.

    MAX reads the weights in place, so they must live as long as the graphs. Raises RuntimeError or ValueError where MAX
    refuses a file, and ForkError in a process that was forked from one that had loaded graphs.
    """
    sharing: AbstractContextManager[None] = core_sharing if device.is_host else nullcontext()
    with inside_max, sharing:
        session = InferenceSession([device] if device.is_host else [device, CPU()], [])
        loaded = [session._load_all(session._wrap_compiled(read(file)), weights) for file in files]
    return {model.name: CompiledGraph(model, sharing) for models in loaded for model in models}
