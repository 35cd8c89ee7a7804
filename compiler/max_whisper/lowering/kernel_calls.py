"""Describes the kernel calls of a compiled graph: written by the process that compiles it, read by `bench`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from max_whisper.tensors.dtypes import DTYPES


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel reads or writes."""

    dtype: str
    shape: list[int | str]  # a name is a dimension that is not known when the graph is compiled
    weight: str | None = None  # its name, if it is a tensor of the artifact
    matrix: tuple[int, int] | None = None  # [out, in], if it holds the weights of a product, packed or not

    def bound(self, dims: Mapping[str, int]) -> Operand:
        """Returns the operand with the sizes of dimensions that were not known."""
        return replace(self, shape=[dims.get(dim, dim) if isinstance(dim, str) else dim for dim in self.shape])

    @property
    def dims(self) -> list[int]:
        """The shape. Raises ValueError where a dimension is not known."""
        return [int(dim) for dim in self.shape]

    @property
    def bytes(self) -> int:
        """The size in memory. Raises ValueError where a dimension is not known."""
        return prod(self.dims) * DTYPES[self.dtype].bytes


@dataclass(frozen=True)
class KernelCall:
    """One call of one of our kernels."""

    kernel: str
    layers: list[str]  # the paths of the layers that it computes, or computes a part of
    operands: list[Operand]
    outputs: list[Operand]
    dtype: str | None = None  # of the products with the keys, in attention; None elsewhere

    def bound(self, dims: Mapping[str, int]) -> KernelCall:
        """Returns the call with the sizes of dimensions that were not known when the graph was compiled."""
        operands, outputs = ([operand.bound(dims) for operand in part] for part in (self.operands, self.outputs))
        return replace(self, operands=operands, outputs=outputs)


@dataclass(frozen=True)
class Cost:
    """The operations and bytes of one call."""

    products: dict[str, int]  # operations by dtype, as each dtype has a peak rate of its own
    bytes: int  # read and written, each once

    @property
    def flops(self) -> int:
        """The number of operations of all dtypes."""
        return sum(self.products.values())
