"""The time of each kernel of an artifact, from graphs with a clock before and after each (lowering/clocked.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.engine import Executable
from max_whisper.artifact.load import Artifact
from max_whisper.compile.recompile import compile_again
from max_whisper.lowering.calls import Call
from max_whisper.progress import OnProgress
from max_whisper.runtime.decoder import Decoder
from max_whisper.spec import Spec
from max_whisper.tools.bench.phases import Window

GRAPHS = ("encoder", "cross_kv", "step")


@dataclass(frozen=True)
class Clocked:
    """Compiled graphs with clocks, and what their kernels are."""

    artifact: Artifact
    calls: dict[str, list[Call]]  # by graph


@dataclass(frozen=True)
class Times:
    """Milliseconds of a graph: medians."""

    kernels: list[float]  # in the order of the calls
    whole: float  # of the graph without clocks


def compile_clocked(artifact: Artifact, spec: Spec, progress: OnProgress) -> Clocked:
    """The graphs of an artifact for a CPU once more, with clocks. Raises CompileError where MAX fails."""
    return Clocked(*compile_again(artifact.folder, artifact.manifest, spec, progress=progress, clocks=True))


class Plain:
    """A graph without clocks; notes how long it runs."""

    def __init__(self, model: Executable) -> None:
        self._model = model
        self.noted: list[float] = []  # milliseconds

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        begin = perf_counter()
        outputs: list[Buffer] = self._model.execute(*inputs)
        self.noted.append((perf_counter() - begin) * 1e3)
        return outputs


class WithClocks:
    """A graph with clocks, which takes and gives what the one without does; notes how long each kernel runs."""

    def __init__(self, model: Executable, n_calls: int) -> None:
        self._model = model
        self._times = np.zeros(2 * n_calls, np.int64)
        self._buffer = Buffer.from_numpy(self._times)  # the same memory
        self.noted: list[NDArray[np.float64]] = []  # milliseconds of the kernels

    def execute(self, *inputs: Buffer) -> list[Buffer]:
        outputs: list[Buffer] = self._model.execute(*inputs, self._buffer)
        self.noted.append((self._times[1::2] - self._times[::2]) / 1e6)
        return outputs


def times(window: Window, clocked: Clocked, rounds: int) -> dict[str, Times]:
    """Of each of GRAPHS. Those with and without clocks take turns; a round of `step` is all tokens of the window."""
    artifact, mel = window.artifact, Buffer.from_numpy(window.log_mel())
    plain = {graph: Plain(artifact.graphs[graph]) for graph in GRAPHS}
    with_clocks = {graph: WithClocks(clocked.artifact.graphs[graph], len(clocked.calls[graph])) for graph in GRAPHS}
    kinds = [
        (graphs, Decoder(replace(artifact, graphs={**artifact.graphs, **graphs}))) for graphs in (plain, with_clocks)
    ]
    for each in range(rounds + 1):
        for graphs, decoder in kinds:
            (features,) = graphs["encoder"].execute(mel)
            window.decode(decoder.cross_kv(features), window.n_tokens, decoder)
            if each == 0:  # does not count
                for graph in graphs.values():
                    graph.noted.clear()
    return {
        graph: Times(np.median(with_clocks[graph].noted, axis=0).tolist(), median(plain[graph].noted))
        for graph in GRAPHS
    }
