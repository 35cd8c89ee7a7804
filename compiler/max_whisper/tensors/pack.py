"""Matrices as the kernels for many rows read them (kernels/tile.mojo): panels of 32 outputs, in groups of 32 bits.

A matrix [out, in] becomes [panels, groups, 32 * numbers of a group], with zeros where outputs or inputs do not fill a
panel or a group: for each group of neighbouring inputs, the numbers of 32 outputs stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PANEL = 32
PER_GROUP = {"float32": 1, "bfloat16": 2, "int8": 4}


def packed_shape(n_out: int, n_in: int, dtype: str) -> tuple[int, int, int]:
    """Panels, groups of inputs, and numbers of a group of a panel."""
    size = PER_GROUP[dtype]
    return -(-n_out // PANEL), -(-n_in // size), PANEL * size


def as_matrix(weights: NDArray[Any]) -> NDArray[Any]:
    """[out, in], or of a convolution [out, in, kernel] -> [out, kernel * in], as rows of its input stand together."""
    return weights if weights.ndim == 2 else weights.transpose(0, 2, 1).reshape(len(weights), -1)


def from_matrix(matrix: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """What `as_matrix` was given, of that shape."""
    if len(shape) == 2:
        return matrix
    n_out, n_in, kernel = shape
    return np.ascontiguousarray(matrix.reshape(n_out, kernel, n_in).transpose(0, 2, 1))


def pack(matrix: NDArray[Any], dtype: str) -> NDArray[Any]:
    """[out, in] -> `packed_shape`, of any type of number; `dtype` says how many of them a group has."""
    n_out, n_in = matrix.shape
    panels, groups, _ = packed_shape(n_out, n_in, dtype)
    size = PER_GROUP[dtype]
    whole = np.zeros((panels * PANEL, groups * size), matrix.dtype)
    whole[:n_out, :n_in] = matrix
    columns = whole.reshape(panels, PANEL, groups, size).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns).reshape(panels, groups, PANEL * size)


def unpack(packed: NDArray[Any], n_out: int, n_in: int) -> NDArray[Any]:
    """What `pack` was given."""
    panels, groups, width = packed.shape
    columns = packed.reshape(panels, groups, PANEL, width // PANEL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns.reshape(panels * PANEL, -1)[:n_out, :n_in])
