"""MAX's engine, as far as running compiled graphs needs it.

`max.engine` imports the graph builder as well, which takes as long as all that a loaded artifact needs of MAX. So these
are the classes that it wraps. They are not part of MAX's public interface: pyproject.toml pins the version, and
an artifact is refused by any other than the one that compiled it (load.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

from max._core import __version__ as MAX_VERSION
from max._core.engine import InferenceSession, Model, read
from max.driver import CPU, Buffer, Device

from max_whisper.artifact.cores import AT_WORK
from max_whisper.artifact.process import inside_max

__all__ = ["MAX_VERSION", "CompiledGraph", "Executable", "load_graphs"]


class Executable(Protocol):
    """A compiled graph."""

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """What the graph gives for its inputs."""
        ...


class CompiledGraph:
    """One that MAX has loaded."""

    def __init__(self, model: Model, at_work: AbstractContextManager[None]) -> None:
        """at_work: entered for each execution."""
        self._model = model
        self._at_work = at_work
        inside_max.owns(self)

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """What the graph gives for its inputs."""
        with inside_max, self._at_work:
            outputs: list[Buffer] = self._model._execute_device_tensors(inputs)
        return outputs

    def ports(self) -> list[list[tuple[str, tuple[int | None, ...]]]]:
        """What it takes and what it gives: dtype and shape of each, None for a dimension that varies."""
        specs = (self._model.input_metadata, self._model.output_metadata)
        return [[(spec.dtype.name, tuple(spec.shape)) for spec in ports] for ports in specs]


def load_graphs(files: Iterable[Path], device: Device, weights: Mapping[str, Buffer]) -> dict[str, CompiledGraph]:
    """The graphs of MEF files by their names. MAX reads the weights in place: they must live as long as the graphs.

    Raises RuntimeError or ValueError where MAX refuses a file, ForkError where MAX's threads are another process's.
    """
    at_work: AbstractContextManager[None] = AT_WORK if device.is_host else nullcontext()
    with inside_max, at_work:
        session = InferenceSession([device] if device.is_host else [device, CPU()], [])
        loaded = [session._load_all(session._wrap_compiled(read(file)), weights) for file in files]
    return {model.name: CompiledGraph(model, at_work) for models in loaded for model in models}
