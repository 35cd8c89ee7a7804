"""Turns programs into MAX graphs, by the emitters of a backend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from max.graph import BufferType, BufferValue, Graph, Module, TensorType, TensorValue, ops
from max.graph import Value as PortValue

from max_whisper.lowering.backends.emission import HOST, Backend, Context, Emitted, Invocation, Matrix, scalar, type_of
from max_whisper.lowering.kernel_calls import KernelCall, Operand
from max_whisper.lowering.ops import Input, Op, Program, Value, WeightValue, dims_of
from max_whisper.lowering.passes.instrument import TIMES

Type: TypeAlias = "TensorType | BufferType"
Origin: TypeAlias = "tuple[str | None, tuple[int, int] | None]"  # the name of a tensor of the artifact, and [out, in]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a graph by name, in order."""

    inputs: Mapping[str, Type]
    outputs: Mapping[str, Type]


def emit(
    program: Program, backend: Backend, context: Context, module: Module, extensions: Sequence[Path]
) -> tuple[Signature, list[KernelCall]]:
    """Adds a program to a module as a graph, and returns its signature and its calls of our kernels.

    extensions: the compiled packages of the kernels.
    """
    inputs = {name: _input_type(value, context) for name, value in program.inputs.items()}
    with Graph(program.name, input_types=inputs.values(), module=module, custom_extensions=list(extensions)) as graph:
        emitter = _Emitter(backend, context)
        for name, port in zip(program.inputs, graph.inputs, strict=True):
            emitter.add_input(name, program.inputs[name], port)
        for op in program.ops:
            emitter.add_op(op)
        outputs = {name: emitter.values[value] for name, value in program.outputs.items()}
        graph.output(*outputs.values())
    return Signature(inputs, {name: output.type for name, output in outputs.items()}), emitter.calls


class _Emitter:
    """Adds the ops of one program to the current graph."""

    def __init__(self, backend: Backend, context: Context) -> None:
        self.values: dict[Value, Any] = {}  # what MAX has for each value: a tensor, a buffer, or a Matrix
        self.calls: list[KernelCall] = []
        self._backend, self._context = backend, context
        self._times: BufferValue  # the input TIMES, which only instrumented programs have

    def add_input(self, name: str, value: Input, port: PortValue) -> None:
        """Makes an input of the graph known to the ops that read it."""
        self.values[value] = port.buffer if value.state else port.tensor
        if name == TIMES:
            self._times = port.buffer

    def add_op(self, op: Op) -> None:
        """Adds an op to the current graph."""
        emit_op = self._backend.emitters[op.kind]
        inputs = {name: self.values[value] for name, value in op.inputs.items()}
        emitted = emit_op(self._context, **inputs, **op.attributes)
        if isinstance(emitted, Invocation):
            self.calls.append(self._described(emitted, op))
            emitted = self._run(emitted, op.slot)
        self.values |= zip(op.outputs, _results(emitted), strict=True)

    def _run(self, call: Invocation, slot: int | None) -> list[TensorValue]:
        results = call.run() if slot is None else _timed(call, slot, self._times)
        return results if call.squeeze is None else [ops.squeeze(result, call.squeeze) for result in results]

    def _described(self, call: Invocation, op: Op) -> KernelCall:
        dtype = call.parameters.get("dtype")
        weights = self._weights(op)
        operands = [_operand(value.type, *weights.get(id(value), (None, None))) for value in call.operands]
        outputs = [_operand(type_) for type_ in call.results]
        return KernelCall(call.kernel, [*op.layers], operands, outputs, dtype.name if dtype else None)

    def _weights(self, op: Op) -> dict[int, Origin]:
        """Returns the name and the matrix shape of the weights among an op's inputs, by the identity of MAX's value."""
        weights: dict[int, Origin] = {}
        for value in op.inputs.values():
            emitted = self.values[value]
            if isinstance(emitted, Matrix):
                weights[id(emitted.elements)] = emitted.stored.name, emitted.stored.matrix_shape
                if emitted.scales is not None:
                    weights[id(emitted.scales)] = emitted.stored.scales, None
            elif isinstance(value, WeightValue):
                weights[id(emitted)] = value.stored.name, None
        return weights


def _results(emitted: Emitted) -> Sequence[Any]:
    """Returns what an emitter returned as a sequence with an item for each output of the op."""
    if emitted is None:
        return ()
    return emitted if isinstance(emitted, list) else [emitted]


def _timed(call: Invocation, slot: int, times: BufferValue) -> list[TensorValue]:
    """Adds a call to the graph with a timestamp before and after it, and returns the kernel's results.

    The kernel must wait for the first timestamp, so one of its operands passes through the clock. The clock copies it,
    so it is the smallest one.
    """
    smallest = min(range(len(call.operands)), key=lambda i: _elements(call.operands[i]))
    operands = [*call.operands]
    before = [operands[smallest], times, scalar(2 * slot)]
    (operands[smallest],) = Invocation("clock_before", before, [operands[smallest].type]).run()
    results = replace(call, operands=operands).run()
    Invocation("clock_after", [results[0], times, scalar(2 * slot + 1)], []).run()
    return results


def _elements(value: TensorValue | BufferValue) -> float:
    """Returns how many elements the clock would copy; infinity for an operand that it cannot copy."""
    dims = [dim for dim in dims_of(value.shape) if isinstance(dim, int)]
    known = isinstance(value, TensorValue) and len(dims) == value.rank
    return math.prod(dims) if known else math.inf


def _input_type(value: Input, context: Context) -> Type:
    return type_of(value.dtype, value.shape, HOST if value.host else context.device, state=value.state)


def _operand(type_: Type, weight: str | None = None, matrix: tuple[int, int] | None = None) -> Operand:
    return Operand(type_.dtype.name, dims_of(type_.shape), weight, matrix)
