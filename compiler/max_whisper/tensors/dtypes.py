"""The one table of dtypes: the name of each in safetensors, its type in numpy, and its layout for the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

import numpy as np


@dataclass(frozen=True)
class Dtype:
    """A number type of tensors."""

    name: str  # as MAX and the specs call it
    format: str  # as safetensors calls it
    numpy: np.dtype[
        Any
    ]  # its type in numpy; unsigned integers of its bits where numpy has none (bfloat16, 8-bit floats)
    group: int = 1  # inputs that a kernel's SIMD lane multiplies at once, and so lie together in packed matrices

    @property
    def bytes(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize


FLOAT32 = Dtype("float32", "F32", np.dtype("<f4"))
FLOAT16 = Dtype("float16", "F16", np.dtype("<f2"))
BFLOAT16 = Dtype("bfloat16", "BF16", np.dtype("<u2"), group=2)
INT8 = Dtype("int8", "I8", np.dtype("i1"), group=4)
INT64 = Dtype("int64", "I64", np.dtype("<i8"))

_OF_CHECKPOINTS_ONLY = (  # a build refuses tensors of these by name
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

_ALL = (FLOAT32, FLOAT16, BFLOAT16, INT8, INT64, *_OF_CHECKPOINTS_ONLY)
DTYPES: Mapping[str, Dtype] = {dtype.name: dtype for dtype in _ALL}
"""Every dtype by its name."""
BY_FORMAT: Mapping[str, Dtype] = {dtype.format: dtype for dtype in _ALL}
"""Every dtype by the name that safetensors gives it."""

BuildDtype = Literal["float32", "bfloat16", "int8"]
"""The dtypes that the matrices of a build can have."""
StoredDtype = Literal["float32", "float16", "bfloat16", "int8"]
"""The dtypes that the tensors of an artifact can have."""
ComputeDtype = Literal["float32", "bfloat16"]
"""The dtypes of the operands of products of floats, to which the tensors of a checkpoint are cast."""
BUILD_DTYPES: tuple[str, ...] = get_args(BuildDtype)
COMPUTE_DTYPES: tuple[str, ...] = get_args(ComputeDtype)
STORED_FORMATS = tuple(DTYPES[name].format for name in get_args(StoredDtype))
"""The names in safetensors of the dtypes that the tensors of an artifact can have."""
FLOAT_DTYPES = (FLOAT32, FLOAT16, BFLOAT16)
"""The dtypes that the tensors of a checkpoint can have."""
LOSSLESS_DTYPES = (FLOAT16, BFLOAT16)
"""The 16-bit dtypes that tensors of a float32 build have where one holds them without loss."""


def byte_count(format: str, shape: Sequence[int]) -> int:
    """Returns the bytes that a tensor takes in a safetensors file, which calls its dtype `format`."""
    return prod(shape) * BY_FORMAT[format].bytes
