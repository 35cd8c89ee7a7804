"""Converts the arrays of callers to what the graphs take, and checks them, because MAX does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.errors import UserError


def float32_rows(value: ArrayLike, name: str, dims: Mapping[str, int]) -> NDArray[np.float32]:
    """Returns a contiguous float32 array [windows, *dims], with at least one window.

    name: the name of the array in errors. dims: names and sizes of its other dimensions. Raises UserError for another
    shape, for numbers that are no floats, and for numbers that are not finite as float32.
    """
    array = as_array(value, name, f"float32 [windows, {', '.join(dims)}]")
    sizes = tuple(dims.values())
    if array.ndim != 3 or array.shape[1:] != sizes or len(array) == 0 or array.dtype.kind != "f":
        raise UserError(
            f"{name}: expected float32 [windows, {', '.join(dims)}] = [n, {', '.join(map(str, sizes))}], "
            f"got {array.dtype} {list(array.shape)}"
        )
    with np.errstate(over="ignore"):  # numbers that are too large become infinite, which is refused below
        rows = np.ascontiguousarray(array, np.float32)
    check_finite(rows, name)
    return rows


def check_finite(array: NDArray[np.float32], name: str) -> None:
    """Raises UserError if a number of the array is NaN, or infinite."""
    if not np.isfinite(array).all():
        raise UserError(f"{name}: expected finite numbers, got NaN or infinity, or numbers too large for float32")


def token_rows(value: ArrayLike, *, rows: int, longest: int, n_vocab: int) -> NDArray[np.int64]:
    """Returns token ids as int64 [rows, length], of 1 to `longest` tokens, each below n_vocab.

    Raises UserError for another shape, for numbers that are no integers, and for ids that the model does not have.
    """
    ids = as_array(value, "tokens", f"integers [{rows}, length]")
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or len(ids) != rows:
        raise UserError(f"tokens: expected integers [{rows}, length], got {ids.dtype} {list(ids.shape)}")
    if not 1 <= ids.shape[1] <= longest:
        raise UserError(f"tokens: expected 1 to {longest} for each window, got {ids.shape[1]}")
    if ids.min() < 0 or ids.max() >= n_vocab:
        raise UserError(f"tokens: expected ids below {n_vocab}, got {ids.min()} to {ids.max()}")
    return ids.astype(np.int64)


def token_list(value: Sequence[int], n_vocab: int) -> list[int]:
    """Returns the token ids of one text, which may be empty, as ints. Raises UserError like `token_rows`."""
    ids = as_array(value, "tokens", "integers [length]")
    if not ids.size:
        return []
    return [int(i) for i in token_rows(ids[None], rows=1, longest=ids.size, n_vocab=n_vocab)[0]]


def as_array(value: Any, name: str, expected: str) -> NDArray[Any]:
    """Returns a value as a numpy array. Raises UserError, which says what was expected, where it cannot be one."""
    try:
        return np.asarray(value)
    except Exception as e:  # rows of several lengths, or what the caller's own class raises
        raise UserError(f"{name}: expected {expected}, got no array: {e}") from e
