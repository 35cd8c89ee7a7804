"""Graphs whose kernels are as they are, with a clock before and after each: what a kernel's time is.

They have one more input, `times`, int64 [slots]: the nanoseconds at which the kernels of the graph began and ended, in
turns. Which kernel does which layers of the spec is noted while they are joined: layer normalisation and activation
have no kernel of their own (see cpu.py).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from max.dtype import DType
from max.graph import BufferType, BufferValue, Graph, Module, TensorType, TensorValue

from max_whisper.lowering.calls import Call, Operand
from max_whisper.lowering.cpu import HOST, Embedded, KernelOps, Normed, Product, TokenOps, WindowOps, outputs_of, scalar
from max_whisper.lowering.graphs import Lowered, Lowering, Type
from max_whisper.lowering.ops import Value

Calls = list[Call]


def _noted(name: str) -> Callable[..., Any]:
    """The operation of that name; what it gives is noted as done by the layer that is being built."""

    def operation(self: Clocked, *values: Value, **options: Any) -> Value:
        with self._building(values, self._layer):
            y = getattr(super(Clocked, self), name)(*values, **options)
            self._parts[id(y)] = (y, self._layers())
        return y

    return operation


def _passed(name: str) -> Callable[..., Any]:
    """The operation of that name; it computes what waits, for whatever layers that was."""

    def operation(self: Clocked, x: Value, *values: Any) -> Any:
        with self._building([x], None):
            return getattr(super(Clocked, self), name)(x, *values)

    return operation


class Clocked(KernelOps):
    """Puts clocks around kernels, before any other class of operations for a CPU."""

    def __init__(self, *args: Any, calls: Calls, **options: Any) -> None:
        """`calls` gets every call of a kernel, in order."""
        super().__init__(*args, **options)
        self._calls = calls
        self._layer: str | None = None  # that is being built
        self._parts: dict[int, tuple[Value, list[str]]] = {}  # by identity, what was given and the layers in it
        self._operands: Sequence[Value] = ()  # of the operation that is being built
        self._within: str | None = None  # the layer that it belongs to

    conv1d = _noted("conv1d")
    linear = _noted("linear")
    layernorm = _noted("layernorm")
    activation = _noted("activation")
    embedding = _noted("embedding")
    positions = _noted("positions")
    self_attention = _noted("self_attention")
    cross_attention = _noted("cross_attention")
    add = _noted("add")
    logits = _noted("logits")
    value = _passed("value")
    split = _passed("split")
    select = _passed("select")

    def begin(self, path: str) -> None:
        self._layer = path

    @contextlib.contextmanager
    def _building(self, operands: Sequence[Value], layer: str | None) -> Iterator[None]:
        outer = self._operands, self._within
        self._operands, self._within = operands, layer
        try:
            yield
        finally:
            self._operands, self._within = outer

    def _layers(self) -> list[str]:
        """Those that the operation is a part of: its own, and those of what it takes that were not computed yet."""
        waiting = [self._parts[id(x)][1] for x in self._operands if _waits(x) and id(x) in self._parts]
        own = [self._within] if self._within else []
        return list(dict.fromkeys([path for paths in [*waiting, own] for path in paths]))

    def _call(
        self, name: str, values: Sequence[TensorValue | BufferValue], types: Sequence[TensorType], **parameters: Any
    ) -> list[TensorValue]:
        number = len(self._calls)
        weights = {id(value): name for name, value in self._values.items()}
        operands = [_operand(value.type, weights.get(id(value))) for value in values]
        dtype = parameters.get("dtype")
        outputs = [_operand(type_) for type_ in types]
        self._calls.append(Call(name, self._layers(), operands, outputs, dtype.name if dtype else None))
        times = Graph.current.inputs[-1].buffer
        # The kernel must wait for the clock: it takes an operand from it, the one that is soonest copied.
        chosen = min(range(len(values)), key=lambda i: _size(values[i]))
        clocked = [*values]
        (clocked[chosen],) = outputs_of(
            "clock_before", [values[chosen], times, scalar(2 * number)], [values[chosen].type]
        )
        given = super()._call(name, clocked, types, **parameters)
        outputs_of("clock_after", [given[0], times, scalar(2 * number + 1)], [])
        return given


class ClockedWindowOps(Clocked, WindowOps):
    """With clocks."""


class ClockedTokenOps(Clocked, TokenOps):
    """With clocks."""


@dataclass(frozen=True, kw_only=True)
class ClockedLowering(Lowering):
    """To the graphs of a window and of a token, for a CPU."""

    probes: Path  # the compiled package with the clock
    calls: dict[str, Calls] = field(default_factory=dict)  # by graph, once that was built

    @property
    def extensions(self) -> list[Path]:
        return [*super().extensions, self.probes]

    def decoder_module(self) -> Lowered:
        """The graph `step`."""
        module = Module()
        return Lowered(module, {"step": self.step(module)})

    def _graph(self, name: str, inputs: dict[str, Type], module: Module) -> Graph:
        inputs["times"] = BufferType(DType.int64, ["slots"], HOST)
        self.calls[name] = []
        return super()._graph(name, inputs, module)

    @property
    def _operations(self) -> tuple[Callable[..., WindowOps], Callable[..., TokenOps]]:
        calls = self.calls[[*self.calls][-1]]  # of the graph that is being built
        return partial(ClockedWindowOps, calls=calls), partial(ClockedTokenOps, calls=calls)


def _waits(x: Value) -> bool:
    return isinstance(x, Normed | Embedded) or (isinstance(x, Product) and x.computed is None)


def _operand(type_: TensorType | BufferType, weight: str | None = None) -> Operand:
    shape = [int(dim) if str(dim).isdigit() else str(dim) for dim in type_.shape]
    return Operand(type_.dtype.name, shape, weight)


def _size(value: TensorValue | BufferValue) -> float:
    """How many numbers a clock would copy; infinite for what it cannot."""
    dims = [str(dim) for dim in value.shape]
    known = isinstance(value, TensorValue) and all(dim.isdigit() for dim in dims)
    return math.prod(map(int, dims)) if known else math.inf
