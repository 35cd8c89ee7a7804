"""The types of cost rules, and the rules that several kernels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from max_whisper.lowering.kernel_calls import KernelCall

Work: TypeAlias = tuple[dict[str, int], int]
"""Operations by the dtype of the products, and bytes of operands that are not touched."""
CostRule: TypeAlias = Callable[[KernelCall, int], Work]
"""Takes a call, and how many tokens are in the KV cache before it."""


def of_product(dtype: str, rows: int, n_out: int, n_in: int, *, untouched: int = 0) -> Work:
    """Returns the work of a matrix product: a multiplication and an addition for each of its terms."""
    return {dtype: 2 * rows * n_out * n_in}, untouched


def of_elements(call: KernelCall, position: int) -> Work:
    """Returns the work of an element-wise kernel: its operations do not count, its bytes do."""
    return {}, 0
