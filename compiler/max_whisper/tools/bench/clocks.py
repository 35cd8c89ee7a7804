"""Measures each kernel of an artifact by instrumented graphs, which take a timestamp before and after each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.engine import Executable
from max_whisper.artifact.load import Artifact
from max_whisper.compile.recompile import recompile
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.progress import OnProgress
from max_whisper.runtime.decoding.decoder import Decoder
from max_whisper.spec import Spec
from max_whisper.tools.bench.phases import Window

GRAPHS = ("encoder", "cross_kv", "step")


@dataclass(frozen=True)
class Instrumented:
    """Instrumented graphs, compiled, and their kernel calls."""

    artifact: Artifact
    calls: dict[str, list[KernelCall]]  # by graph


@dataclass(frozen=True)
class Times:
    """The median times of a graph, in milliseconds."""

    kernels: list[float]  # in the order of the calls
    whole: float  # of the graph without timestamps


def compile_instrumented(artifact: Artifact, spec: Spec, progress: OnProgress) -> Instrumented:
    """Returns the graphs of an artifact for a CPU compiled again, instrumented. Raises CompileError where MAX fails."""
    return Instrumented(*recompile(artifact.folder, artifact.manifest, spec, progress=progress, instrument=True))


class Plain:
    """A graph without timestamps, whose runs are timed."""

    def __init__(self, model: Executable) -> None:
        self._model = model
        self.noted: list[float] = []  # milliseconds of each run

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """Runs the graph, and adds how long it took to `noted`."""
        begin = perf_counter()
        outputs: list[Buffer] = self._model.execute(*inputs)
        self.noted.append((perf_counter() - begin) * 1e3)
        return outputs


class WithClocks:
    """An instrumented graph, called as the one without timestamps is."""

    def __init__(self, model: Executable, n_calls: int) -> None:
        self._model = model
        self._times = np.zeros(2 * n_calls, np.int64)
        self._buffer = Buffer.from_numpy(self._times)  # the same memory
        self.noted: list[NDArray[np.float64]] = []  # milliseconds of the kernels in each run

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """Runs the graph, and adds how long each kernel took to `noted`."""
        outputs: list[Buffer] = self._model.execute(*inputs, self._buffer)
        self.noted.append((self._times[1::2] - self._times[::2]) / 1e6)
        return outputs


def times(window: Window, instrumented: Instrumented | None, rounds: int) -> dict[str, Times]:
    """Returns the times of each of GRAPHS; without instrumented graphs, only those of the whole graph.

    Graphs with and without timestamps take turns; a round of `step` is all tokens of the window.
    """
    artifact, mel = window.artifact, Buffer.from_numpy(window.log_mel())
    plain = {graph: Plain(artifact.graphs[graph]) for graph in GRAPHS}
    with_clocks = _with_clocks(instrumented) if instrumented else {}
    kinds: list[Mapping[str, Plain | WithClocks]] = [plain, with_clocks] if with_clocks else [plain]
    decoders = [Decoder(replace(artifact, graphs={**artifact.graphs, **graphs})) for graphs in kinds]
    for number in range(rounds + 1):
        for graphs, decoder in zip(kinds, decoders, strict=True):
            (features,) = graphs["encoder"].execute(mel)
            window.decode(decoder.cross_kv(features), window.n_tokens, decoder)
            if number == 0:  # a warm-up
                for graph in graphs.values():
                    graph.noted.clear()
    kernels = {graph: np.median(timed.noted, axis=0).tolist() for graph, timed in with_clocks.items()}
    return {graph: Times(kernels.get(graph, []), median(plain[graph].noted)) for graph in GRAPHS}


def _with_clocks(instrumented: Instrumented) -> dict[str, WithClocks]:
    graphs, calls = instrumented.artifact.graphs, instrumented.calls
    return {graph: WithClocks(graphs[graph], len(calls[graph])) for graph in GRAPHS}
