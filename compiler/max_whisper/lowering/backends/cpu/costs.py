"""The type of cost rules, and the rules that several kernels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from max_whisper.lowering.kernel_calls import KernelCall

Work: TypeAlias = tuple[dict[str, int], int]
"""Operations by the dtype of the products, and the bytes of operands that the call does not touch."""
CostRule: TypeAlias = Callable[[KernelCall, int], Work]
"""Returns the work of a call, given the number of tokens in the KV cache before it."""


def of_product(dtype: str, rows: int, n_out: int, n_in: int, *, untouched: int = 0) -> Work:
    """Returns the work of a matrix product: a multiplication and an addition for each term."""
    return {dtype: 2 * rows * n_out * n_in}, untouched


def of_elements(call: KernelCall, position: int) -> Work:
    """Returns the work of an element-wise kernel, whose operations do not count but whose bytes do."""
    return {}, 0
