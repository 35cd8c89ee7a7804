"""What the kernels of a compiled graph do, call by call: told by the process that compiles it, read by `bench`."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from max_whisper.tensors.dtypes import DTYPES


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel reads or writes."""

    dtype: str
    shape: list[int | str]  # a name is a dimension that varies
    weight: str | None = None  # its name, if it is one of the artifact's tensors
    matrix: tuple[int, int] | None = None  # outputs and inputs, if it is the weights of a product, packed or not

    @property
    def dims(self) -> list[int]:
        """The shape, where all of it is known. Raises ValueError where it is not."""
        return [int(dim) for dim in self.shape]

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return prod(self.dims) * DTYPES[self.dtype].bytes


@dataclass(frozen=True)
class KernelCall:
    """One call of one of our kernels."""

    kernel: str
    layers: list[str]  # paths of those of the spec that it does, or has a part in
    operands: list[Operand]
    outputs: list[Operand]
    dtype: str | None = None  # of products, where the operands do not say it: of attention, of those with keys


@dataclass(frozen=True)
class Cost:
    """What one call computes and moves."""

    products: dict[str, int]  # operations by the dtype of the products, whose peak rate counts
    bytes: int  # read and written, each once

    @property
    def flops(self) -> int:
        """The operations of all dtypes."""
        return sum(self.products.values())
