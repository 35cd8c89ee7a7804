"""Packs matrices as the kernels for many rows read them (kernels/tile.mojo): panels of 32 outputs, groups of 32 bits.

A matrix [out, in] becomes [panels, groups, 32 * elements of a group], with zeros where outputs or inputs do not fill a
panel or a group: for each group of neighbouring inputs, the elements of 32 outputs stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.tensors.dtypes import DTYPES

PANEL = 32


def packed_shape(n_out: int, n_in: int, dtype: str) -> tuple[int, int, int]:
    """Returns the panels, the groups of inputs, and the elements of a group of a panel."""
    size = DTYPES[dtype].group
    return -(-n_out // PANEL), -(-n_in // size), PANEL * size


def as_matrix(weights: NDArray[Any]) -> NDArray[Any]:
    """Returns the matrix [out, in] of a matrix product.

    A convolution [out, in, kernel] becomes [out, kernel * in], because its input rows lie side by side in memory.
    """
    return weights if weights.ndim == 2 else weights.transpose(0, 2, 1).reshape(len(weights), -1)


def from_matrix(matrix: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Returns weights of that shape: the inverse of `as_matrix`."""
    if len(shape) == 2:
        return matrix
    n_out, n_in, kernel = shape
    return np.ascontiguousarray(matrix.reshape(n_out, kernel, n_in).transpose(0, 2, 1))


def pack(matrix: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Returns a matrix [out, in] in `packed_shape`. dtype: that of the kernel, which gives the length of a group."""
    n_out, n_in = matrix.shape
    panels, groups, _ = packed_shape(n_out, n_in, dtype)
    size = DTYPES[dtype].group
    padded = np.zeros((panels * PANEL, groups * size), matrix.dtype)
    padded[:n_out, :n_in] = matrix
    columns = padded.reshape(panels, PANEL, groups, size).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns).reshape(panels, groups, PANEL * size)


def unpack(packed: NDArray[Any], n_out: int, n_in: int) -> NDArray[Any]:
    """Returns the matrix [out, in]: the inverse of `pack`."""
    panels, groups, width = packed.shape
    columns = packed.reshape(panels, groups, PANEL, width // PANEL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns.reshape(panels * PANEL, -1)[:n_out, :n_in])
