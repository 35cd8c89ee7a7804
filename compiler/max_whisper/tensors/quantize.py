"""Matrices as 8-bit integers with a scale for each output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
ZERO = 128  # what stands for 0 in activations of unsigned 8 bits (kernels/tile.mojo)


def quantise(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 [out, in] and scales, float32 [2, out], of a matrix [out, in].

    A number times the scale of its output is the weight; the largest weight of an output is 127 or -127. The second row
    of scales is the scale times 128 times the sum of the numbers: what a product with activations whose zero is 128 has
    too much.
    """
    largest = np.abs(matrix).max(axis=1)
    scale = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    numbers = np.rint(matrix / scale[:, None]).astype(np.int8)
    return numbers, np.stack([scale, scale * ZERO * numbers.sum(axis=1, dtype=np.int32)]).astype(np.float32)


def dequantise(numbers: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix that was meant, float32 [out, in]."""
    matrix: NDArray[np.float32] = numbers * scales[0][:, None]
    return matrix
