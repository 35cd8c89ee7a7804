"""Compares each layer of a spec with the limits of the machine: the roofline of Williams, Waterman, Patterson (2009).

A kernel takes at least as long as its products at the CPU's peak rate, and as its bytes at that of the memory; the
longer of the two bounds it. Layers that one kernel computes together are one row, whose FLOPs are those of the layers.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from max_whisper.lowering.backends.cpu.kernels import cost
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.spec import Spec
from max_whisper.spec.tree import LayerNode
from max_whisper.tools.bench.clocks import Times
from max_whisper.tools.bench.peak_rates import PeakRates, arithmetic_ms

COPY = re.compile(r"\.layers\[\d+\]")  # the index of a copy of a repeated layer, in a path
TOKEN_CHOICE = "choice of the token"  # stands in place of layers, as it belongs to none


@dataclass(frozen=True)
class Kernel:
    """The calls of a kernel for all copies of a repeated layer; all numbers are sums over the copies."""

    name: str
    weight: str | None  # the weight of the first copy, if the kernel multiplies with one matrix
    flops: int
    bytes: int
    ms: float
    arithmetic_ms: float  # the time of the products at the CPU's peak rate
    memory_ms: float  # the time of the bytes at the memory's peak rate
    copies: int = 1

    @property
    def lower_bound(self) -> float:
        """The milliseconds that the machine needs at least."""
        return max(self.arithmetic_ms, self.memory_ms)


class Sums(ABC):
    """The sums of kernels: their operations, bytes and times."""

    @abstractmethod
    def parts(self) -> list[Kernel]:
        """Returns the kernels."""

    @property
    def flops(self) -> int:
        """The operations of the kernels."""
        return sum(kernel.flops for kernel in self.parts())

    @property
    def bytes(self) -> int:
        """The bytes that the kernels read and write."""
        return sum(kernel.bytes for kernel in self.parts())

    @property
    def ms(self) -> float:
        """The milliseconds of the kernels."""
        return sum(kernel.ms for kernel in self.parts())

    @property
    def lower_bound(self) -> float:
        """The milliseconds that the machine needs at least for the kernels."""
        return sum(kernel.lower_bound for kernel in self.parts())


@dataclass(frozen=True)
class Row(Sums):
    """Layers of the spec that kernels compute together, with the copies of these layers."""

    copies: list[list[str]]  # paths of the layers, for each copy
    kernels: list[Kernel]  # empty where MAX's own ops compute the layers
    layer_flops: int  # of all copies, as the spec counts them

    @property
    def flops(self) -> int:
        """The operations of the kernels; those of the layers where there are no kernels."""
        return super().flops if self.kernels else self.layer_flops

    @property
    def layers(self) -> list[str]:
        """The paths of the layers of the first copy."""
        return self.copies[0]

    def parts(self) -> list[Kernel]:
        """Returns the kernels of the row."""
        return self.kernels


@dataclass(frozen=True)
class Roofline(Sums):
    """The times and costs of a graph, layer by layer."""

    graph: str
    rows: list[Row]
    graph_ms: float  # of the graph without timestamps

    def parts(self) -> list[Kernel]:
        """Returns the kernels of all rows."""
        return [kernel for row in self.rows for kernel in row.kernels]

    @property
    def flops(self) -> int:
        """The operations of the rows."""
        return sum(row.flops for row in self.rows)

    @property
    def outside_kernels(self) -> float:
        """The milliseconds outside the kernels; below 0 where other programs disturbed the measurement."""
        return self.graph_ms - self.ms


def roofline(
    graph: str,
    calls: Sequence[KernelCall],
    times: Times,
    *,
    layers: Mapping[str, int],
    peak_rates: PeakRates,
    position: int = 0,
) -> Roofline:
    """Returns the times and costs of a graph, layer by layer.

    calls: the kernel calls of the graph. layers: the operations of each of its layers, by path, in order of execution.
    position: the tokens in the KV cache, for a decode step.
    """
    kernels = [_kernel(call, ms, peak_rates, position) for call, ms in zip(calls, times.kernels, strict=True)]
    rows: list[Row] = []
    for paths in _joined([call.layers for call in calls], [*layers]):
        of_layers = [kernel for call, kernel in zip(calls, kernels, strict=True) if set(call.layers) & set(paths)]
        _add(rows, Row([paths], of_layers, sum(layers[path] for path in paths)))
    if without_layer := [kernel for call, kernel in zip(calls, kernels, strict=True) if not call.layers]:
        rows.append(Row([[TOKEN_CHOICE]], without_layer, 0))
    return Roofline(graph, rows, times.graph)


def for_one_token(calls: Sequence[KernelCall], batch: int) -> list[KernelCall]:
    """Returns the kernel calls of a graph with the dimensions of a decode step: a token of one text of each window."""
    return [call.bound({"texts": batch, "length": 1}) for call in calls]


def _kernel(call: KernelCall, ms: float, peak_rates: PeakRates, position: int) -> Kernel:
    costs = cost(call, position)
    weights = [operand.weight for operand in call.operands if operand.matrix]
    weight = weights[0] if len(weights) == 1 else None
    memory_ms = costs.bytes / peak_rates["memory"] / 1e6
    return Kernel(
        call.kernel, weight, costs.flops, costs.bytes, ms, arithmetic_ms(costs.products, peak_rates), memory_ms
    )


def whisper_layers(spec: Spec, graph: str, batch: int, position: int) -> dict[str, int]:
    """Returns the operations of each layer that a graph of a Whisper computes, by path, in order of execution.

    batch: the windows that it computes at once. position: the tokens in the KV cache, for a decode step.
    """
    nodes: Iterable[LayerNode] = (spec.encoder if graph == "encoder" else spec.decoder).walk()
    return {
        node.path: batch * (node.flops_per_token(position) if graph == "step" else node.flops_per_window)
        for node in nodes
        if not node.children and (graph != "cross_kv" or node.layer.memory_tensors(node.input_shape))
    }


def _joined(sets: Iterable[list[str]], layers: list[str]) -> list[list[str]]:
    """Returns the layers in disjoint groups, in order, so that each set of layers lies in one group."""
    groups = {path: [path] for path in layers}
    for paths in sets:
        together = [path for path in layers if any(path in groups[other] for other in paths)]
        groups |= dict.fromkeys(together, together)
    return [groups[path] for path in layers if groups[path][0] == path]


def _add(rows: list[Row], row: Row) -> None:
    """Adds a row to the rows, or to the row that it is a copy of."""
    for index, other in enumerate(rows):
        if _are_copies(other, row):
            kernels = [_sum(one, another) for one, another in zip(other.kernels, row.kernels, strict=True)]
            rows[index] = Row([*other.copies, *row.copies], kernels, other.layer_flops + row.layer_flops)
            return
    rows.append(row)


def _are_copies(row: Row, other: Row) -> bool:
    """Returns whether two rows are copies of each other: the same repeated layers, at the same cost."""
    costs = [
        [(kernel.name, kernel.flops // kernel.copies, kernel.bytes // kernel.copies) for kernel in copy.kernels]
        for copy in (row, other)
    ]
    names = [[COPY.sub("", path) for path in copy.layers] for copy in (row, other)]
    return costs[0] == costs[1] and names[0] == names[1]


def _sum(one: Kernel, other: Kernel) -> Kernel:
    return replace(
        one,
        flops=one.flops + other.flops,
        bytes=one.bytes + other.bytes,
        ms=one.ms + other.ms,
        arithmetic_ms=one.arithmetic_ms + other.arithmetic_ms,
        memory_ms=one.memory_ms + other.memory_ms,
        copies=one.copies + other.copies,
    )
