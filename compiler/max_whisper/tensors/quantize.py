"""Quantizes matrices to 8-bit integers with a scale for each output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from max_whisper.tensors.dtypes import INT8

LARGEST = 127
ZERO_POINT = 128  # the unsigned 8-bit value of an activation of 0 (kernels/tile.mojo)


def quantize(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns int8 [out, in] and the scales, float32 [2, out], of a matrix [out, in].

    A weight is its integer times the scale of its output; the largest weight of an output becomes 127 or -127. The
    second row of the scales is the zero-point correction: the scale times 128 times the sum of the integers, which a
    product with unsigned activations must subtract.
    """
    max_abs = np.abs(matrix).max(axis=1)
    scale = np.where(max_abs > 0, max_abs / LARGEST, 1).astype(np.float32)
    integers = np.rint(matrix / scale[:, None]).astype(INT8.numpy)
    correction = scale * ZERO_POINT * integers.sum(axis=1, dtype=np.int32)
    return integers, np.stack([scale, correction]).astype(np.float32)


def dequantize(integers: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the matrix, float32 [out, in], that the integers and their scales stand for."""
    matrix: NDArray[np.float32] = integers * scales[0][:, None]
    return matrix
