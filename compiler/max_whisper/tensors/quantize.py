"""Quantizes matrices to 8-bit integers with a scale for each output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from max_whisper.tensors.dtypes import INT8

LARGEST = 127
"""The integer that the largest weight of an output becomes, or its negative."""
ZERO_POINT = 128
"""The unsigned 8-bit value that kernels/tile.mojo gives to an activation of 0."""


def quantize(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns the int8 integers [out, in] and the float32 scales [2, out] of a matrix [out, in].

    A weight is its integer times the scale of its output, which is in the first row of the scales; the largest weight
    of an output becomes 127 or -127. The second row is the zero-point correction, which a product with unsigned
    activations must subtract: the scale times 128 times the sum of the integers.
    """
    max_abs = np.abs(matrix).max(axis=1)
    scale = np.where(max_abs > 0, max_abs / LARGEST, 1).astype(np.float32)
    integers = np.rint(matrix / scale[:, None]).astype(INT8.numpy)
    correction = scale * ZERO_POINT * integers.sum(axis=1, dtype=np.int32)
    return integers, np.stack([scale, correction]).astype(np.float32)


def dequantize(integers: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the float32 matrix [out, in] of int8 integers and their scales."""
    matrix: NDArray[np.float32] = integers * scales[0][:, None]
    return matrix
