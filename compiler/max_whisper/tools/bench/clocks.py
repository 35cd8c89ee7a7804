"""Times each kernel of an artifact, by instrumented graphs with timestamps before and after every kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.engine import Executable
from max_whisper.artifact.load import WhisperArtifact
from max_whisper.compile.recompile import recompile
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.progress import OnProgress
from max_whisper.runtime.decoding.decoder import Decoder
from max_whisper.spec import Spec
from max_whisper.tools.bench.phases import NoiseWindows


@dataclass(frozen=True)
class Instrumented:
    """The compiled instrumented graphs of an artifact, and their kernel calls."""

    artifact: WhisperArtifact
    calls: dict[str, list[KernelCall]]  # by graph


@dataclass(frozen=True)
class Times:
    """The median times of a graph, in milliseconds."""

    kernels: list[float]  # in the order of the calls
    graph: float  # of the whole graph, without timestamps


def compile_instrumented(artifact: WhisperArtifact, spec: Spec, progress: OnProgress) -> Instrumented:
    """Compiles the graphs of an artifact for a CPU once more, instrumented. Raises CompileError where MAX fails."""
    return Instrumented(*recompile(artifact.folder, artifact.manifest, spec, progress=progress, instrument=True))


class TimedGraph:
    """A graph without timestamps that notes how long each run takes."""

    def __init__(self, model: Executable) -> None:
        self._model = model
        self.runs: list[float] = []  # milliseconds of each run

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """Runs the graph, and adds its time to `runs`."""
        begin = perf_counter()
        outputs: list[Buffer] = self._model.execute(*inputs)
        self.runs.append((perf_counter() - begin) * 1e3)
        return outputs


class InstrumentedGraph:
    """An instrumented graph that is called as the graph without timestamps, and notes the times of its kernels."""

    def __init__(self, model: Executable, n_calls: int) -> None:
        self._model = model
        self._times = np.zeros(2 * n_calls, np.int64)
        self._buffer = Buffer.from_numpy(self._times)  # the same memory
        self.runs: list[NDArray[np.float64]] = []  # milliseconds of each kernel, for each run

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        """Runs the graph, and adds the times of its kernels to `runs`."""
        outputs: list[Buffer] = self._model.execute(*inputs, self._buffer)
        self.runs.append((self._times[1::2] - self._times[::2]) / 1e6)
        return outputs


def times(
    windows: NoiseWindows, graphs: Sequence[str], instrumented: Instrumented | None, rounds: int
) -> dict[str, Times]:
    """Returns the times of some graphs; without instrumented graphs, no times of kernels.

    Graphs with and without timestamps take turns. In a round each graph runs once, and `step` once for each token.
    """
    artifact, mel = windows.artifact, Buffer.from_numpy(windows.log_mel())
    plain = {name: TimedGraph(artifact.graphs[name]) for name in graphs}
    clocked = _instrumented_graphs(instrumented, graphs) if instrumented else {}
    versions: list[Mapping[str, TimedGraph | InstrumentedGraph]] = [plain, clocked] if clocked else [plain]
    decoders = [Decoder(replace(artifact, graphs={**artifact.graphs, **version})) for version in versions]
    for number in range(rounds + 1):
        for version, decoder in zip(versions, decoders, strict=True):
            (features,) = version["encoder"].execute(mel)
            windows.decode(decoder.cross_kv(features), windows.n_tokens, decoder)
            if number == 0:  # a warm-up
                for graph in version.values():
                    graph.runs.clear()
    kernels = {name: np.median(graph.runs, axis=0).tolist() for name, graph in clocked.items()}
    return {name: Times(kernels.get(name, []), median(plain[name].runs)) for name in graphs}


def _instrumented_graphs(instrumented: Instrumented, graphs: Sequence[str]) -> dict[str, InstrumentedGraph]:
    compiled, calls = instrumented.artifact.graphs, instrumented.calls
    return {name: InstrumentedGraph(compiled[name], len(calls[name])) for name in graphs}
