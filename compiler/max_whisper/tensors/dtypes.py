"""The table of all dtypes: the name of each in safetensors, its type in numpy, and its layout in packed matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

import numpy as np


@dataclass(frozen=True)
class Dtype:
    """A dtype of tensors.

    Attributes:
        name: Its name in MAX and in manifests.
        format: Its name in safetensors files.
        numpy: Its type in numpy; an unsigned integer of as many bits where numpy lacks it (bfloat16, 8-bit floats).
        per_word: The elements of a 32-bit word of packed matrices: the inputs that a SIMD lane multiplies at once.
    """

    name: str
    format: str
    numpy: np.dtype[Any]
    per_word: int = 1

    @property
    def bytes(self) -> int:
        """The bytes of one element."""
        return self.numpy.itemsize


FLOAT32 = Dtype("float32", "F32", np.dtype("<f4"))
FLOAT16 = Dtype("float16", "F16", np.dtype("<f2"))
BFLOAT16 = Dtype("bfloat16", "BF16", np.dtype("<u2"), per_word=2)
INT8 = Dtype("int8", "I8", np.dtype("i1"), per_word=4)
INT64 = Dtype("int64", "I64", np.dtype("<i8"))

_UNSUPPORTED = (  # checkpoints may have such tensors, which a build refuses by the dtype's name
    Dtype("float64", "F64", np.dtype("<f8")),
    Dtype("float8_e4m3fn", "F8_E4M3", np.dtype("u1")),
    Dtype("float8_e5m2", "F8_E5M2", np.dtype("u1")),
    Dtype("bool", "BOOL", np.dtype("?")),
    Dtype("uint8", "U8", np.dtype("u1")),
    Dtype("uint16", "U16", np.dtype("<u2")),
    Dtype("int16", "I16", np.dtype("<i2")),
    Dtype("uint32", "U32", np.dtype("<u4")),
    Dtype("int32", "I32", np.dtype("<i4")),
    Dtype("uint64", "U64", np.dtype("<u8")),
)

_ALL = (FLOAT32, FLOAT16, BFLOAT16, INT8, INT64, *_UNSUPPORTED)
DTYPES: Mapping[str, Dtype] = {dtype.name: dtype for dtype in _ALL}
"""Every dtype by its name."""
BY_FORMAT: Mapping[str, Dtype] = {dtype.format: dtype for dtype in _ALL}
"""Every dtype by the name that safetensors gives it."""

BuildDtype = Literal["float32", "bfloat16", "int8"]
"""The dtypes that the matrices of a build can have."""
StoredDtype = Literal["float32", "float16", "bfloat16", "int8"]
"""The dtypes that the tensors of an artifact can have."""
ComputeDtype = Literal["float32", "bfloat16"]
"""The dtypes of the operands of floating-point products, which the tensors of a checkpoint are cast to."""
BUILD_DTYPES: tuple[str, ...] = get_args(BuildDtype)
COMPUTE_DTYPES: tuple[str, ...] = get_args(ComputeDtype)
FLOAT_DTYPES = (FLOAT32, FLOAT16, BFLOAT16)
"""The dtypes that the tensors of a checkpoint can have."""
LOSSLESS_DTYPES = (FLOAT16, BFLOAT16)
"""The 16-bit dtypes that tensors of a float32 build may have, where one holds them without loss."""


def byte_count(format: str, shape: Sequence[int]) -> int:
    """Returns the bytes of a tensor in a safetensors file; `format` is its dtype's name there."""
    return prod(shape) * BY_FORMAT[format].bytes
