"""The primitives by MAX's ops, in every backend; layer kinds without an emitter of their own are built from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, TensorValue, ops

from max_whisper.lowering.backends.emission import HOST, Context, Emitter


def matmul(context: Context, x: TensorValue, y: TensorValue) -> TensorValue:
    """Returns x @ y, which in float32 is nearly as exact on a GPU as on a CPU.

    A GPU's tensor cores keep 11 bits of each factor (TF32), and MAX has no option against that. So each operand is
    split into two parts, high and low, that lose little or nothing there. The three products that matter, high @ high +
    high @ low + low @ high, are computed as one product of three times the depth, which compiles as fast as x @ y. On
    an H200 the relative error falls from 8e-4 to 3e-6. A single row is multiplied without tensor cores, and so is the
    fused attention (max_ops.attend).
    """
    if context.device == HOST or x.dtype != DType.float32 or all(str(dim) == "1" for dim in x.shape[:-1]):
        return ops.matmul(x, y)
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    return ops.matmul(ops.concat([x_high, x_high, x_low], axis=-1), ops.concat([y_high, y_low, y_high], axis=-2))


def _halves(x: TensorValue) -> tuple[TensorValue, TensorValue]:
    """Returns the upper 8 bits of each element's significand, which bfloat16 has, and the rest."""
    high = x.cast(DType.bfloat16).cast(DType.float32)
    return high, x - high


def constant(context: Context, *, value: float) -> TensorValue:
    """Returns a float32 scalar."""
    return ops.constant(value, DType.float32, device=context.device)


def concat(context: Context, **values: TensorValue) -> TensorValue:
    """Returns the values joined along the last axis."""
    return ops.concat([*values.values()], axis=-1)


def last_axis(context: Context, x: TensorValue, *, start: int, stop: int) -> TensorValue:
    """Returns the elements from `start` to `stop` of the last axis."""
    return x[..., start:stop]


def reshape(context: Context, x: TensorValue, *, shape: Sequence[int | str]) -> TensorValue:
    """Returns the same elements in another shape."""
    return ops.reshape(x, list(shape))


def transpose(context: Context, x: TensorValue, *, axes: Sequence[int]) -> TensorValue:
    """Returns `x` with its axes in this order."""
    return ops.permute(x, list(axes))


def take(context: Context, x: TensorValue, *, rows: Sequence[int]) -> TensorValue:
    """Returns the rows of [batch, length, channels] with these indices."""
    return ops.gather(x, ops.constant(np.array(rows), DType.int64, device=context.device), axis=1)


def rows(context: Context, table: TensorValue, x: TensorValue, position: TensorValue | None = None) -> TensorValue:
    """Returns the rows of a table for the positions of the rows of `x`, which begin at `position`, or at 0."""
    if position is None:
        return table if table.shape[0] == x.shape[1] else table[: int(x.shape[1]), :]
    return table[(slice(position, position + length_of(x)), x.shape[1]), :]


def rows_from(context: Context, x: TensorValue, first: TensorValue) -> TensorValue:
    """Returns the rows of `x` [batch, length, channels] from `first` on, as [batch, n_scored, channels]."""
    return x[:, (slice(first, length_of(x)), "n_scored"), :]


def read(context: Context, state: BufferValue) -> TensorValue:
    """Returns the contents of a buffer."""
    return ops.buffer_load(state)


def write(context: Context, state: BufferValue, x: TensorValue) -> None:
    """Writes `x` to a buffer."""
    ops.buffer_store(state, x)


def length_of(x: TensorValue) -> TensorValue:
    """Returns the length of [batch, length, channels] as an int64 scalar on the host, where slices need it."""
    return ops.shape_to_tensor([x.shape[1]])[0]


PRIMITIVES: dict[str, Emitter] = {
    "add": lambda context, x, y: x + y,
    "sub": lambda context, x, y: x - y,
    "mul": lambda context, x, y: x * y,
    "div": lambda context, x, y: x / y,
    "exp": lambda context, x: ops.exp(x),
    "tanh": lambda context, x: ops.tanh(x),
    "sigmoid": lambda context, x: ops.sigmoid(x),
    "rsqrt": lambda context, x: ops.rsqrt(x),
    "sqrt": lambda context, x: ops.sqrt(x),
    "mean": lambda context, x: ops.mean(x, axis=-1),
    "softmax": lambda context, x: ops.softmax(x),
    "matmul": matmul,
    "constant": constant,
    "concat": concat,
    "slice": last_axis,
    "reshape": reshape,
    "transpose": transpose,
    "take": take,
    "rows": rows,
    "rows_from": rows_from,
    "read": read,
    "write": write,
}
