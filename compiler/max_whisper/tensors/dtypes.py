"""The one table of dtypes: how each is called by safetensors, held by numpy, and read by the kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Dtype:
    """A number type of tensors."""

    name: str  # as MAX and the specs call it
    format: str  # as safetensors calls it
    numpy: np.dtype[Any]  # how numpy holds it: bfloat16, which it lacks, as the uint16 of its bits
    group: int = 1  # inputs that a kernel's SIMD lane multiplies at once, and so lie together in packed matrices

    @property
    def bytes(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize


DTYPES: Mapping[str, Dtype] = {
    dtype.name: dtype
    for dtype in (
        Dtype("float32", "F32", np.dtype("<f4")),
        Dtype("float16", "F16", np.dtype("<f2")),
        Dtype("bfloat16", "BF16", np.dtype("<u2"), group=2),
        Dtype("int8", "I8", np.dtype("i1"), group=4),
        Dtype("int64", "I64", np.dtype("<i8")),
    )
}
"""By name. Checkpoints may hold others too; what reads them is tensors/safetensors_file.py."""

BUILD_DTYPES = ("float32", "bfloat16", "int8")
"""What the matrices of a build can have."""
FLOAT_DTYPES = ("float32", "float16", "bfloat16")
"""What the tensors of a checkpoint can have."""
