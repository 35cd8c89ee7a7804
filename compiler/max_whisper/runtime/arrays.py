"""Arrays from callers: cast to what the graphs take, and checked, before MAX reads them without looking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.errors import UserError


def float32_rows(value: ArrayLike, name: str, dims: Mapping[str, int]) -> NDArray[np.float32]:
    """Returns a contiguous float32 array [windows, *dims], with at least one window.

    name: what an error calls the array. dims: names and sizes of its other dimensions.
    Raises UserError for another shape, for numbers that are no floats, and for those that are not finite as float32.
    """
    array = as_array(value, name, f"float32 [windows, {', '.join(dims)}]")
    sizes = tuple(dims.values())
    if array.ndim != 3 or array.shape[1:] != sizes or len(array) == 0 or array.dtype.kind != "f":
        raise UserError(
            f"{name}: expected float32 [windows, {', '.join(dims)}] = [n, {', '.join(map(str, sizes))}], "
            f"got {array.dtype} {list(array.shape)}"
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        rows = np.ascontiguousarray(array, np.float32)
    check_finite(rows, name)
    return rows


def padded(rows: NDArray[Any], length: int) -> NDArray[Any]:
    """Returns a copy of rows with rows of zeros behind them, `length` in all; `numpy.pad` takes 20 times as long."""
    result = np.zeros((length, *rows.shape[1:]), rows.dtype)
    result[: len(rows)] = rows
    return result


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
    """Returns token ids of one text, which may be empty. Raises UserError like `token_rows`."""
    ids = as_array(value, "tokens", "integers [length]")
    if not ids.size:
        return []
    return [int(i) for i in token_rows(ids[None], rows=1, longest=ids.size, n_vocab=n_vocab)[0]]


def as_array(value: Any, name: str, expected: str) -> NDArray[Any]:
    """Returns what numpy makes of a value. Raises UserError, with what was expected, where it makes no array of it."""
    try:
        return np.asarray(value)
    except Exception as e:  # rows of several lengths, or what the caller's own class raises
        raise UserError(f"{name}: expected {expected}, got no array: {e}") from e
