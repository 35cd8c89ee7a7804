"""The types that emitters take and return, and what all backends share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from max.dtype import DType
from max.graph import BufferType, BufferValue, DeviceRef, Graph, TensorType, TensorValue, Weight, ops

from max_whisper.lowering.ops import Program
from max_whisper.tensors.stored import StoredTensor

HOST = DeviceRef.CPU()


@dataclass(frozen=True)
class Context:
    """The device that a graph runs on, and the dtype of its products."""

    device: DeviceRef
    dtype: str  # of the build: "float32", "bfloat16" or "int8"


@dataclass(frozen=True)
class Matrix:
    """The weights of a matrix product, as the graph reads them."""

    stored: StoredTensor
    elements: TensorValue
    scales: TensorValue | None  # float32 [2, out], of int8 matrices


@dataclass(frozen=True)
class Invocation:
    """One call of one of our kernels, which `emit` makes."""

    kernel: str
    operands: Sequence[TensorValue | BufferValue]
    results: Sequence[TensorType]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    squeeze: int | None = None  # an axis of length 1 that the kernel's result has, and the op's has not

    def run(self) -> list[TensorValue]:
        """Adds the call to the current graph, and returns the kernel's results."""
        in_place = any(isinstance(value, BufferValue) for value in self.operands)
        custom = ops.inplace_custom if in_place else ops.custom
        results = custom(self.kernel, HOST, list(self.operands), list(self.results), parameters=dict(self.parameters))
        return [result.tensor for result in results]


Emitted: TypeAlias = "TensorValue | Matrix | Invocation | Sequence[TensorValue] | None"
Emitter: TypeAlias = Callable[..., Emitted]
"""Adds an op to the current graph; takes a Context, the inputs of the op by name, and its attributes."""


@dataclass(frozen=True)
class Backend:
    """How programs become MAX graphs: an emitter for each kind of op, and the passes that run before."""

    emitters: Mapping[str, Emitter]
    kernels: frozenset[str] = frozenset()  # the kinds whose emitters return an Invocation
    passes: Sequence[Callable[[Program], Program]] = ()  # run on each program before it is emitted


def weight(context: Context, *, tensor: StoredTensor) -> TensorValue | Matrix:
    """Returns a tensor of the artifact: a Matrix if it holds the weights of a product."""
    elements = _external(context, tensor.name, tensor.dtype, tensor.stored_shape)
    if not tensor.matrix:
        return elements
    scales = _external(context, tensor.scales, "float32", tensor.scales_shape) if tensor.scales else None
    return Matrix(tensor, elements, scales)


def _external(context: Context, name: str, dtype: str, shape: Sequence[int]) -> TensorValue:
    """Returns a tensor that is bound when the graph is loaded, in the memory of the device that the graph runs on."""
    declared = Weight(name, DType[dtype], list(shape), context.device)
    return Graph.current.add_weight(declared, force_initial_weight_on_host=context.device == HOST)


def scalar(number: int) -> TensorValue:
    """Returns an int64 scalar on the host, where slices and our kernels expect it."""
    return ops.constant(number, DType.int64, device=HOST)


def type_of(
    dtype: str, shape: Sequence[int | str], device: DeviceRef, *, state: bool = False
) -> TensorType | BufferType:
    """Returns the MAX type of a value, or of a buffer."""
    return (BufferType if state else TensorType)(DType[dtype], list(shape), device)
