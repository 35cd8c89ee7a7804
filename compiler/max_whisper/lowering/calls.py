"""What a compiled graph does, kernel by kernel: told by the process that compiles it, read by the one that measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operand:
    """A tensor that a kernel reads or writes."""

    dtype: str  # "float32", "float16", "bfloat16", "int8", "int64"
    shape: list[int | str]  # a name is a dimension that may vary
    weight: str | None = None  # its name, if it is one of the artifact's tensors


@dataclass(frozen=True)
class Call:
    """One call of one of our kernels."""

    kernel: str
    layers: list[str]  # paths of those of the spec that it does, or has a part in
    operands: list[Operand]
    outputs: list[Operand]
    dtype: str | None = None  # of products, where the operands do not say it; of attention, of those with keys
