"""Compares each layer of a spec with what the machine allows: the roofline of Williams, Waterman, Patterson (2009).

No kernel is faster than its products at the CPU's peak, nor than its bytes at the speed of the memory; whichever takes
longer binds it. Layers that a kernel does together are one row, whose FLOPs are those of the layers.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.lowering.targets.cpu.kernels import cost
from max_whisper.spec import Spec
from max_whisper.spec.tree import LayerNode
from max_whisper.tools.bench.clocks import Times
from max_whisper.tools.bench.peak_rates import PeakRates, arithmetic_ms

COPY = re.compile(r"\.layers\[\d+\]")  # of a repeat, in a path


@dataclass(frozen=True)
class Kernel:
    """The calls of a kernel that do the same for each copy of a layer; all numbers are sums over the copies."""

    name: str
    weight: str | None  # that of the first copy, if the kernel is a product with one matrix
    flops: int
    bytes: int
    ms: float
    arithmetic_ms: float  # of the products at the CPU's peak
    memory_ms: float  # of the bytes at the memory's speed
    copies: int = 1

    @property
    def lower_bound(self) -> float:
        """Milliseconds that the machine needs at least."""
        return max(self.arithmetic_ms, self.memory_ms)


class Sums(ABC):
    """The sums of some kernels: what they compute and move, and how long they take."""

    @abstractmethod
    def parts(self) -> list[Kernel]:
        """Returns the kernels."""

    @property
    def flops(self) -> int:
        return sum(kernel.flops for kernel in self.parts())

    @property
    def bytes(self) -> int:
        return sum(kernel.bytes for kernel in self.parts())

    @property
    def ms(self) -> float:
        return sum(kernel.ms for kernel in self.parts())

    @property
    def lower_bound(self) -> float:
        return sum(kernel.lower_bound for kernel in self.parts())


@dataclass(frozen=True)
class Row(Sums):
    """Layers of the spec that kernels do together, and the copies of these layers."""

    copies: list[list[str]]  # paths of the layers, for each copy
    kernels: list[Kernel]  # none where MAX's own ops do it
    layer_flops: int  # of all copies, as the spec counts them

    @property
    def flops(self) -> int:
        """The operations of the kernels, or else of the layers."""
        return super().flops if self.kernels else self.layer_flops

    @property
    def layers(self) -> list[str]:
        return self.copies[0]

    def parts(self) -> list[Kernel]:
        return self.kernels


@dataclass(frozen=True)
class Roofline(Sums):
    """The times and costs of a compiled graph, layer by layer."""

    graph: str
    rows: list[Row]
    whole: float  # milliseconds of the graph without timestamps

    def parts(self) -> list[Kernel]:
        return [kernel for row in self.rows for kernel in row.kernels]

    @property
    def flops(self) -> int:
        """The operations of the rows."""
        return sum(row.flops for row in self.rows)

    @property
    def rest(self) -> float:
        """Milliseconds between the kernels; below 0 where the machine was disturbed."""
        return self.whole - self.ms


def roofline(
    graph: str,
    calls: Sequence[KernelCall],
    times: Times,
    *,
    spec: Spec,
    peak_rates: PeakRates,
    batch: int,
    position: int,
) -> Roofline:
    """Returns the times and costs of a graph, layer by layer.

    calls: those of the graph's kernels. batch: windows that it computes at once. position: tokens in the caches, for
    the graph of a token.
    """
    kernels = [_kernel(call, ms, peak_rates, position) for call, ms in zip(calls, times.kernels, strict=True)]
    leaves = _leaves(spec, graph)
    flops = {
        path: batch * (node.flops_per_token(position) if graph == "step" else node.flops_per_window)
        for path, node in leaves.items()
    }
    rows: list[Row] = []
    for layers in _joined([call.layers for call in calls], [*leaves]):
        own = [kernel for call, kernel in zip(calls, kernels, strict=True) if set(call.layers) & set(layers)]
        _add(rows, Row([layers], own, sum(flops[path] for path in layers)))
    if unowned := [kernel for call, kernel in zip(calls, kernels, strict=True) if not call.layers]:
        rows.append(Row([["the next token"]], unowned, 0))
    return Roofline(graph, rows, times.whole)


def _kernel(call: KernelCall, ms: float, peak_rates: PeakRates, position: int) -> Kernel:
    costs = cost(call, position)
    weights = [operand.weight for operand in call.operands if operand.matrix]
    weight = weights[0] if len(weights) == 1 else None
    memory_ms = costs.bytes / peak_rates["memory"] / 1e6
    return Kernel(
        call.kernel, weight, costs.flops, costs.bytes, ms, arithmetic_ms(costs.products, peak_rates), memory_ms
    )


def _leaves(spec: Spec, graph: str) -> dict[str, LayerNode]:
    """Returns the layers that a graph does by their paths, in order of execution."""
    nodes: Iterable[LayerNode] = (spec.encoder if graph == "encoder" else spec.decoder).walk()
    return {
        node.path: node
        for node in nodes
        if not node.children and (graph != "cross_kv" or node.layer.memory_tensors(node.input_shape))
    }


def _joined(sets: Iterable[list[str]], layers: list[str]) -> list[list[str]]:
    """Returns the layers in disjoint groups, in order: layers that are together in a set are together in a group."""
    groups = {path: [path] for path in layers}
    for paths in sets:
        together = [path for path in layers if any(path in groups[other] for other in paths)]
        groups |= dict.fromkeys(together, together)
    return [groups[path] for path in layers if groups[path][0] == path]


def _add(rows: list[Row], row: Row) -> None:
    """Adds a row, or adds it to the one that it is a copy of."""
    for index, other in enumerate(rows):
        if _alike(other, row):
            kernels = [_sum(one, another) for one, another in zip(other.kernels, row.kernels, strict=True)]
            rows[index] = Row([*other.copies, *row.copies], kernels, other.layer_flops + row.layer_flops)
            return
    rows.append(row)


def _alike(row: Row, other: Row) -> bool:
    """Returns whether two rows are copies: the same layers of a repeat, at the same cost."""
    shapes = [
        [(kernel.name, kernel.flops // kernel.copies, kernel.bytes // kernel.copies) for kernel in copy.kernels]
        for copy in (row, other)
    ]
    names = [[COPY.sub("", path) for path in copy.layers] for copy in (row, other)]
    return shapes[0] == shapes[1] and names[0] == names[1]


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
