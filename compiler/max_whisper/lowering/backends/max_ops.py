"""The operations of Transformers by MAX's own ops: what a GPU runs, and `build --kernels max`.

The idioms are those that MAX turns into its fast kernels: matrix products on transposed external weights, and
`softmax((q @ k^T) * scale) @ v` in that order, which becomes one flash attention kernel. Activations, normalization
and softmax are float32. Where the weights are bfloat16, the operands of matrix products are rounded to bfloat16 and
their results are float32 again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, Dim, TensorValue, ops

from max_whisper.lowering.backends.emission import Backend, Context, Emitter, Matrix, scalar, weight
from max_whisper.lowering.backends.max_selection import choose_token, token_probability
from max_whisper.lowering.backends.primitives import PRIMITIVES, length_of, matmul, rows
from max_whisper.spec.ops import conv1d_length

ACTIVATIONS: Mapping[str, Callable[[TensorValue], TensorValue]] = {
    "gelu": ops.gelu,  # MAX's default is the exact erf form
    "gelu_tanh": lambda x: ops.gelu(x, approximate="tanh"),
    "relu": ops.relu,
    "silu": ops.silu,
}


def conv1d(
    context: Context, x: TensorValue, weight: Matrix, bias: TensorValue | None = None, *, stride: int, padding: int
) -> TensorValue:
    """Returns a convolution as a matrix product of rows that each output sees: [batch, length, channels * kernel].

    MAX's own convolution runs no faster and takes three times as long to compile.
    """
    out, channels, kernel = weight.stored.shape
    batch, length = int(x.shape[0]), int(x.shape[1])
    x = ops.pad(x, [0, 0, padding, padding, 0, 0])
    n_rows = conv1d_length(length, kernel, stride=stride, padding=padding)
    seen = [x[:, i : i + (n_rows - 1) * stride + 1 : stride, :] for i in range(kernel)]
    patches = ops.reshape(ops.stack(seen, axis=-1), [batch, n_rows, channels * kernel])
    return product(context, patches, ops.reshape(weight.elements, [out, channels * kernel]), bias)


def linear(context: Context, x: TensorValue, weight: Matrix, bias: TensorValue | None = None) -> TensorValue:
    """Returns x @ weight.T + bias."""
    return product(context, x, weight.elements, bias)


def product(context: Context, x: TensorValue, elements: TensorValue, bias: TensorValue | None = None) -> TensorValue:
    """Returns x @ elements.T + bias in float32, multiplied in the dtype of the weights."""
    y = matmul(context, x.cast(elements.dtype), ops.transpose(elements, 0, 1)).cast(DType.float32)
    return y if bias is None else y + bias


def logits(context: Context, x: TensorValue, table: Matrix) -> TensorValue:
    """Returns x @ table.T; the table is float32 (`BuildPlan.logits_dtype`)."""
    return product(context, x, table.elements)


def layernorm(context: Context, x: TensorValue, weight: TensorValue, bias: TensorValue, *, eps: float) -> TensorValue:
    """Returns the layer normalization of `x`."""
    return ops.layer_norm(x, weight, bias, eps)


def activation(context: Context, x: TensorValue, *, function: str) -> TensorValue:
    """Returns the activation of each element."""
    return ACTIVATIONS[function](x)


def embedding(context: Context, tokens: TensorValue, table: Matrix) -> TensorValue:
    """Returns the rows of the table for tokens [batch, length], float32."""
    embedded = ops.gather(table.elements, tokens, axis=0).cast(DType.float32)
    if table.scales is None:
        return embedded
    return embedded * ops.unsqueeze(ops.gather(table.scales[0, :], tokens, axis=0), -1)


def positions(context: Context, x: TensorValue, table: TensorValue, position: TensorValue | None = None) -> TensorValue:
    """Returns `x` plus the rows of the table for its positions."""
    return x + rows(context, table, x, position)


def full_attention(context: Context, q: TensorValue, k: TensorValue, v: TensorValue, *, heads: int) -> TensorValue:
    """Returns the attention of every row to every row."""
    return attend(split(q, heads), split(k, heads), split(v, heads))


def cached_attention(
    context: Context,
    q: TensorValue,
    k: TensorValue,
    v: TensorValue,
    key_cache: BufferValue,
    value_cache: BufferValue,
    position: TensorValue,
    *,
    heads: int,
) -> TensorValue:
    """Returns the attention of each row to all up to itself, after its keys and values are written to the KV cache.

    The rows stand at `position` and after. Caches are float32 [batch, heads, n_text_ctx, channels of a head].
    """
    length, end, n_keys = q.shape[1], position + length_of(q), Dim("n_keys")
    visible = []
    for cache, new in ((key_cache, k), (value_cache, v)):
        ops.buffer_store_slice(cache, split(new, heads), [..., (slice(position, end), length), slice(None)])
        visible.append(cache[:, :, (slice(scalar(0), end), n_keys), :])
    mask = _causal_mask(context, length_of(q), length, position, n_keys)
    return attend(split(q, heads), visible[0], visible[1], mask)


def cross_attention(
    context: Context, q: TensorValue, keys: TensorValue, values: TensorValue, *, heads: int
) -> TensorValue:
    """Returns the attention of `q` to keys and values [batch, heads, n_keys, channels of a head]."""
    return attend(split(q, heads), keys, values)


def split_heads(context: Context, x: TensorValue, *, heads: int, dtype: str) -> TensorValue:
    """Returns [batch, heads, length, channels of a head] of [batch, length, channels]."""
    return split(x, heads).cast(DType[dtype])


def attention_scores(context: Context, q: TensorValue, keys: TensorValue, *, heads: Sequence[int]) -> TensorValue:
    """Returns the scores of these heads before the softmax: [batch, these heads, length, n_keys].

    q: [batch, length, channels]. keys: [batch, all heads, n_keys, channels of a head].
    """
    chosen = ops.constant(np.array(heads), DType.int64, device=context.device)
    split_q = split(q, int(keys.shape[1]))
    products = matmul(context, split_q, ops.transpose(keys, 2, 3)) * int(split_q.shape[-1]) ** -0.5
    return ops.gather(products, chosen, axis=1)


def split(x: TensorValue, heads: int) -> TensorValue:
    """Returns [batch, heads, length, channels of a head] of [batch, length, channels]."""
    batch, length, channels = x.shape
    return ops.permute(ops.reshape(x, [batch, length, heads, int(channels) // heads]), [0, 2, 1, 3])


def attend(q: TensorValue, k: TensorValue, v: TensorValue, mask: TensorValue | None = None) -> TensorValue:
    """Returns softmax(q k^T / sqrt(channels of a head) + mask) v of split heads, merged: [batch, length, channels]."""
    batch, heads, length, channels = q.shape
    scores = (q @ ops.transpose(k, 2, 3)) * int(channels) ** -0.5
    y = ops.softmax(scores if mask is None else scores + mask) @ v
    return ops.reshape(ops.permute(y, [0, 2, 1, 3]), [batch, length, int(heads) * int(channels)])


def _causal_mask(context: Context, length: TensorValue, n_rows: Dim, first: TensorValue, n_keys: Dim) -> TensorValue:
    """Returns float32 [rows, keys]: 0 where key <= first + row, else -inf."""
    device = context.device
    row = ops.range(first, first + length, scalar(1), out_dim=n_rows, dtype=DType.int64, device=device)
    key = ops.range(scalar(0), first + length, scalar(1), out_dim=n_keys, dtype=DType.int64, device=device)
    seen = ops.unsqueeze(key, 0) <= ops.unsqueeze(row, 1)
    return ops.where(seen, *(ops.constant(x, DType.float32, device=device) for x in (0.0, -math.inf)))


EMITTERS: dict[str, Emitter] = {
    **PRIMITIVES,
    "weight": weight,
    "conv1d": conv1d,
    "linear": linear,
    "logits": logits,
    "layernorm": layernorm,
    "activation": activation,
    "embedding": embedding,
    "positions": positions,
    "full_attention": full_attention,
    "cached_attention": cached_attention,
    "cross_attention": cross_attention,
    "split_heads": split_heads,
    "attention_scores": attention_scores,
    "choose_token": choose_token,
    "token_probability": token_probability,
}

MAX_OPS = Backend(EMITTERS)
