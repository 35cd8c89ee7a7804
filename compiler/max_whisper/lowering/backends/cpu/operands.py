"""Makes the operands of kernels, which take all operands in every call: absent ones are dummies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from max.dtype import DType
from max.graph import Dim, DimLike, TensorType, TensorValue, ops

from max_whisper.lowering.backends.emission import HOST


def float_scalar(number: float) -> TensorValue:
    """Returns a float32 scalar."""
    return ops.constant(number, DType.float32, device=HOST)


def or_dummy(x: TensorValue | None, rank: int) -> TensorValue:
    """Returns `x`, or a dummy tensor of that rank for an operand that is absent."""
    return ops.constant(np.zeros([1] * rank, np.float32), DType.float32, device=HOST) if x is None else x


def norm_operands(
    weight: TensorValue | None, bias: TensorValue | None, eps: float | None
) -> tuple[list[TensorValue], TensorValue]:
    """Returns the weight and bias of a layer normalization, and its eps; dummies where there is no normalization."""
    return [or_dummy(weight, 1), or_dummy(bias, 1)], float_scalar(0.0 if eps is None else eps)


def result(shape: Sequence[DimLike], dtype: DType = DType.float32) -> TensorType:
    """Returns the type of a kernel's result."""
    return TensorType(dtype, [Dim(dim) for dim in shape], HOST)
