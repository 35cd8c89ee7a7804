"""Attention: of a whole window to itself, of tokens to the KV cache, and of tokens to the encoder's features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, TensorValue, ops

from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.lowering.targets.cpu.costs import CostRule, Work
from max_whisper.lowering.targets.cpu.operands import result, scalar
from max_whisper.lowering.targets.emission import HOST, Context, Emitter, Invocation


def attention(context: Context, q: TensorValue, k: TensorValue, v: TensorValue, *, heads: int) -> Invocation:
    """Returns the attention of every row to every row; its products have the dtype of the build."""
    operands = [q, k, v, scalar(heads)]
    return Invocation("dense_attention", operands, [result(q.shape)], {"dtype": DType[context.dtype]})


def attention_products(dtype: str, flops: int) -> dict[str, int]:
    """Returns operations of `dense_attention` by dtype: of int8 are only the products with the keys, half of all."""
    return {"int8": flops // 2, "bfloat16": flops // 2} if dtype == "int8" else {dtype: flops}


def dense_attention_cost(call: KernelCall, position: int) -> Work:
    """Scores and the weighted sum, of every row to every row."""
    batch, length, channels = call.outputs[0].dims
    return attention_products(call.dtype or "float32", 2 * 2 * batch * length * length * channels), 0


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
    """Puts keys and values into the KV cache at `position`, and attends to all up to each row."""
    return Invocation("attention_over_cache", [q, k, v, key_cache, value_cache, position], [result(q.shape)])


def cached_attention_cost(call: KernelCall, position: int) -> Work:
    """Of the caches, what is behind the tokens is not read."""
    batch, length, channels = call.outputs[0].dims
    cache, n_keys = call.operands[3], position + length
    behind = cache.dims[2] - n_keys
    untouched = 2 * behind * cache.bytes // cache.dims[2]
    return {"float32": 2 * 2 * batch * length * n_keys * channels}, untouched


def cross_attention(
    context: Context, q: TensorValue, keys: TensorValue, values: TensorValue, *, heads: int
) -> Invocation:
    """Returns the attention of `q` to keys and values [batch, heads, n_keys, channels of a head]."""
    return Invocation("attention_over_memory", [q, keys, values], [result(q.shape)])


def cross_attention_cost(call: KernelCall, position: int) -> Work:
    """Scores and the weighted sum over all of the features."""
    batch, length, channels = call.outputs[0].dims
    n_keys = call.operands[1].dims[2]
    return {"float32": 2 * 2 * batch * length * n_keys * channels}, 0


def attention_scores(context: Context, q: TensorValue, keys: TensorValue, *, heads: Sequence[int]) -> Invocation:
    """Returns what some heads of a cross-attention see before the softmax: [batch, some heads, length, n_keys]."""
    chosen = ops.constant(np.array(heads), DType.int64, device=HOST)
    shape = [q.shape[0], len(heads), q.shape[1], keys.shape[2]]
    return Invocation("attention_scores", [q, keys, chosen], [result(shape)])


def attention_scores_cost(call: KernelCall, position: int) -> Work:
    """The products of these heads."""
    batch, heads, length, n_keys = call.outputs[0].dims
    return {"float32": 2 * batch * heads * length * n_keys * call.operands[1].dims[3]}, 0


EMITTERS: dict[str, Emitter] = {
    "attention": attention,
    "cached_attention": cached_attention,
    "cross_attention": cross_attention,
    "attention_scores": attention_scores,
}
COSTS: dict[str, CostRule] = {
    "dense_attention": dense_attention_cost,
    "attention_over_cache": cached_attention_cost,
    "attention_over_memory": cross_attention_cost,
    "attention_scores": attention_scores_cost,
}
