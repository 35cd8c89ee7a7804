"""Packs matrices in the layout that the kernels for many rows read (kernels/tile.mojo).

A matrix [out, in] is cut into panels of 32 outputs, and each panel into 32-bit words of neighboring inputs. It becomes
[panels, words, 32 * elements of a word]: the same word of the 32 outputs stands side by side. Zeros fill the last panel
and the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.tensors.dtypes import DTYPES

PANEL = 32
"""The outputs of a panel; `PANEL` of kernels/tile.mojo."""


def packed_shape(n_out: int, n_in: int, dtype: str) -> tuple[int, int, int]:
    """Returns the shape of a packed matrix: [panels, words, 32 * elements of a word]."""
    size = DTYPES[dtype].per_word
    return -(-n_out // PANEL), -(-n_in // size), PANEL * size


def as_matrix(weights: NDArray[Any]) -> NDArray[Any]:
    """Returns weights as the matrix [out, in] of a matrix product.

    Those of a convolution, [out, in, kernel], become [out, kernel * in], because its input rows are contiguous.
    """
    return weights if weights.ndim == 2 else weights.transpose(0, 2, 1).reshape(len(weights), -1)


def from_matrix(matrix: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Returns a matrix as weights of that shape: the inverse of `as_matrix`."""
    if len(shape) == 2:
        return matrix
    n_out, n_in, kernel = shape
    return np.ascontiguousarray(matrix.reshape(n_out, kernel, n_in).transpose(0, 2, 1))


def pack(matrix: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Returns a matrix [out, in] packed, in `packed_shape`; `dtype` is the kernel's, which sets the size of a word."""
    n_out, n_in = matrix.shape
    panels, words, _ = packed_shape(n_out, n_in, dtype)
    size = DTYPES[dtype].per_word
    padded = np.zeros((panels * PANEL, words * size), matrix.dtype)
    padded[:n_out, :n_in] = matrix
    columns = padded.reshape(panels, PANEL, words, size).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns).reshape(panels, words, PANEL * size)


def unpack(packed: NDArray[Any], n_out: int, n_in: int) -> NDArray[Any]:
    """Returns a packed matrix as [out, in]: the inverse of `pack`."""
    panels, words, size = packed.shape
    columns = packed.reshape(panels, words, PANEL, size // PANEL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns.reshape(panels * PANEL, -1)[:n_out, :n_in])
