"""Casts between the float dtypes of checkpoints; bfloat16, which numpy lacks, is the uint16 of its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.tensors.dtypes import BFLOAT16, FLOAT16, Dtype

CHUNK = 1 << 20
"""The elements that are checked at once, to bound memory."""


def to_float32(array: NDArray[Any], dtype: Dtype) -> NDArray[np.float32]:
    """Returns an array of a dtype of FLOAT_DTYPES as float32, without loss; a float32 array is not copied."""
    if dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def to_bfloat16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Returns the bits of float32 elements rounded to the nearest bfloat16, ties to even; NaN stays NaN.

    A finite element beyond the largest bfloat16 (3.39e38) becomes infinite, as IEEE 754 says.
    """
    bits = np.ascontiguousarray(array).view(np.uint32)
    # Add half of the last place that is kept, minus one unless that place is odd, so that ties go to even. This is done
    # in place, because the embedding of a large model has 265 MB.
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    result = rounded.astype(BFLOAT16.numpy)
    # The carry can turn a NaN into infinity or zero: take the NaN's upper half, with a bit set that keeps it a NaN.
    nan = np.isnan(bits.view(np.float32))
    result[nan] = (bits[nan] >> 16) | 0x40
    return result.reshape(array.shape)


def lossless_dtype(array: NDArray[np.float32]) -> Dtype | None:
    """Returns float16, or else bfloat16, if it holds all of these finite elements without loss; else None.

    That is so for checkpoints that were trained or published in half precision, whatever dtype they are stored in.
    """
    bits = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
    chunks = [bits[i : i + CHUNK] for i in range(0, len(bits), CHUNK)]
    if all(_fits_float16(chunk) for chunk in chunks):
        return FLOAT16
    return None if any((chunk & 0xFFFF).any() for chunk in chunks) else BFLOAT16


def _fits_float16(bits: NDArray[np.uint32]) -> bool:
    """Returns whether float16 holds float32 elements, given by their bits, without loss."""
    if (bits & 0x1FFF).any():  # more than 10 bits of fraction
        return False
    with np.errstate(over="ignore"):
        return np.array_equal(bits.view(np.float32).astype(np.float16).astype(np.float32).view(np.uint32), bits)
