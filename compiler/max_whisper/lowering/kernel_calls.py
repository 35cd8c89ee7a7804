"""The kernel calls of a compiled graph: described by the process that compiles it, read by `bench`."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from max_whisper.tensors.dtypes import DTYPES


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel reads or writes."""

    dtype: str
    shape: list[int | str]  # a name is a dimension that varies
    weight: str | None = None  # the name in the artifact, if it is one of its tensors
    matrix: tuple[int, int] | None = None  # outputs and inputs, if it holds the weights of a product, packed or not

    @property
    def dims(self) -> list[int]:
        """The shape, where all of it is known. Raises ValueError where it is not."""
        return [int(dim) for dim in self.shape]

    @property
    def bytes(self) -> int:
        """Its size in memory. Raises ValueError where a dimension varies."""
        return prod(self.dims) * DTYPES[self.dtype].bytes


@dataclass(frozen=True)
class KernelCall:
    """One call of one of our kernels."""

    kernel: str
    layers: list[str]  # paths in the spec of those that it computes, or a part of which it computes
    operands: list[Operand]
    outputs: list[Operand]
    dtype: str | None = None  # of the products with the keys, in attention; None where the operands say it


@dataclass(frozen=True)
class Cost:
    """The operations and bytes of one call."""

    products: dict[str, int]  # operations by the dtype of the products, whose peak rate counts
    bytes: int  # read and written, each once

    @property
    def flops(self) -> int:
        """The operations of all dtypes."""
        return sum(self.products.values())
