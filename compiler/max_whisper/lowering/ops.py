"""A graph before it is MAX's: a list of ops in order of execution, each with the layers that it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Dim = int | str  # a name is a dimension that varies

EFFECTS = frozenset({"write", "cached_attention"})
"""Kinds of ops that change a buffer, and so count even where nothing reads what they give."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the program."""

    shape: tuple[Dim, ...]
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class WeightValue(Value):
    """A tensor of the artifact."""

    matrix: bool = False  # the weights of a product
    packed: bool = False  # as our kernels for whole windows read it


@dataclass(frozen=True, eq=False)
class Input(Value):
    """An input of the graph: a tensor, or a buffer."""

    state: bool = False  # a buffer that the graph reads and writes in place
    host: bool = False  # in the host's memory, whatever the device is: positions, and what slices need


@dataclass(frozen=True, eq=False)
class Op:
    """One operation; a target has an emitter for each `kind`."""

    kind: str
    inputs: Mapping[str, Value]
    outputs: tuple[Value, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()  # the paths of the layers that it computes, or a part of which it computes
    slot: int | None = None  # where its times go, if it is timed (passes/instrument.py)


@dataclass(frozen=True)
class Program:
    """One graph: its inputs, ops and outputs."""

    name: str
    inputs: Mapping[str, Input]
    ops: Sequence[Op]
    outputs: Mapping[str, Value]
    layers: Mapping[str, Value] = field(default_factory=dict)  # the output of each layer by its path

    def uses(self) -> Counter[Value]:
        """Returns how often each value is read; being an output of the program counts as one read."""
        return Counter([*self.outputs.values(), *(value for op in self.ops for value in op.inputs.values())])

    def pruned(self) -> Program:
        """Returns the program without the ops whose outputs nothing reads, except those in EFFECTS."""
        needed, kept = {*self.outputs.values()}, []
        for op in reversed(self.ops):
            if op.kind in EFFECTS or needed.intersection(op.outputs):
                needed.update(op.inputs.values())
                kept.append(op)
        return replace(self, ops=kept[::-1])


def dims_of(shape: Iterable[object]) -> list[Dim]:
    """Returns the dimensions of one of MAX's shapes: integers, and the names of those that vary."""
    return [int(text) if text.isdigit() else text for text in map(str, shape)]
