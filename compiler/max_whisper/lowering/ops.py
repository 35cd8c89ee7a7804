"""The program of a graph, before it is one of MAX's: ops in order of execution, each with the layers it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from max_whisper.tensors.stored import StoredTensor

Dim = int | str  # a name is a dimension that is not known when the graph is compiled

EFFECTS = frozenset({"write", "cached_attention", "decoder_layer", "lstm"})
"""Kinds of ops that change a buffer, and so are kept even where nothing reads their outputs."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the program."""

    shape: tuple[Dim, ...]
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class WeightValue(Value):
    """A tensor of the artifact."""

    stored: StoredTensor = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class Input(Value):
    """An input of the graph: a tensor, or a buffer."""

    state: bool = False  # a buffer that the graph reads and writes in place
    host: bool = False  # in the host's memory, whatever the device: positions and bounds of slices


@dataclass(frozen=True, eq=False)
class Op:
    """One operation; a backend has an emitter for each `kind`."""

    kind: str
    inputs: Mapping[str, Value]
    outputs: tuple[Value, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()  # the paths of the layers that it computes, or computes a part of
    slot: int | None = None  # the index of its times, if it is timed (passes/instrument.py)


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
    """Returns the dimensions of one of MAX's shapes: integers, and the names of dimensions that vary."""
    return [int(text) if text.isdigit() else text for text in map(str, shape)]
