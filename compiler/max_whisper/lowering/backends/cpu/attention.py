"""Attention: of a window to itself, of tokens to the tokens before them, and of tokens to the encoder's features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, TensorValue, ops

from max_whisper.lowering.backends.cpu.costs import CostRule, Work, of_elements
from max_whisper.lowering.backends.cpu.operands import or_dummy, result
from max_whisper.lowering.backends.emission import HOST, Context, Emitter, Invocation, scalar
from max_whisper.lowering.kernel_calls import KernelCall


def full_attention(context: Context, q: TensorValue, k: TensorValue, v: TensorValue, *, heads: int) -> Invocation:
    """Returns the attention of every row to every row; its products have the dtype of the build."""
    operands = [q, k, v, scalar(heads)]
    return Invocation("full_attention", operands, [result(q.shape)], {"dtype": DType[context.dtype]})


def full_attention_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the scores and of the weighted sum, of every row to every row."""
    batch, length, channels = call.outputs[0].dims
    assert call.dtype is not None
    return {call.dtype: 2 * 2 * batch * length * length * channels}, 0


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
) -> Invocation:
    """Returns the attention of each row to all up to itself, after its keys and values are written to the KV cache."""
    return Invocation("cached_attention", [q, k, v, key_cache, value_cache, position], [result(q.shape)])


def cached_attention_cost(call: KernelCall, position: int) -> Work:
    """Returns the work over the filled part of the KV cache; the rest of it is not read."""
    batch, length, channels = call.outputs[0].dims
    cache, n_keys = call.operands[3], position + length
    unfilled = cache.dims[2] - n_keys
    untouched = 2 * unfilled * cache.bytes // cache.dims[2]
    return {"float32": 2 * 2 * batch * length * n_keys * channels}, untouched


def cross_attention(
    context: Context,
    q: TensorValue,
    keys: TensorValue,
    values: TensorValue,
    keys_scales: TensorValue | None = None,
    values_scales: TensorValue | None = None,
    *,
    heads: int,
) -> Invocation:
    """Returns the attention of `q` to keys and values [batch, heads, n_keys, channels of a head].

    Scales, [batch, heads, n_keys], are for int8.
    """
    operands = [q, keys, or_dummy(keys_scales, 3), values, or_dummy(values_scales, 3)]
    return Invocation("cross_attention", operands, [result(q.shape)])


def cross_attention_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the scores and of the weighted sum over all of the features."""
    batch, length, channels = call.outputs[0].dims
    n_keys = call.operands[1].dims[2]
    return {"float32": 2 * 2 * batch * length * n_keys * channels}, 0


def quantize_rows(context: Context, x: TensorValue, *, centered: bool) -> Invocation:
    """Returns the rows of [batch, heads, length, channels of a head] in int8, and their scales."""
    results = [result(x.shape, DType.int8), result(x.shape[:-1])]
    return Invocation("quantize_rows", [x], results, {"centered": centered})


def attention_scores(
    context: Context,
    q: TensorValue,
    keys: TensorValue,
    keys_scales: TensorValue | None = None,
    *,
    heads: Sequence[int],
) -> Invocation:
    """Returns the scores of these heads before the softmax: [batch, these heads, length, n_keys]."""
    chosen = ops.constant(np.array(heads), DType.int64, device=HOST)
    shape = [q.shape[0], len(heads), q.shape[1], keys.shape[2]]
    return Invocation("attention_scores", [q, keys, or_dummy(keys_scales, 3), chosen], [result(shape)])


def attention_scores_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the products of the chosen heads."""
    batch, heads, length, n_keys = call.outputs[0].dims
    return {"float32": 2 * batch * heads * length * n_keys * call.operands[1].dims[3]}, 0


EMITTERS: dict[str, Emitter] = {
    "full_attention": full_attention,
    "cached_attention": cached_attention,
    "cross_attention": cross_attention,
    "quantize_rows": quantize_rows,
    "attention_scores": attention_scores,
}
COSTS: dict[str, CostRule] = {
    "full_attention": full_attention_cost,
    "cached_attention": cached_attention_cost,
    "cross_attention": cross_attention_cost,
    "quantize_rows": of_elements,
    "attention_scores": attention_scores_cost,
}
