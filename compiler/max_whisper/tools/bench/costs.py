"""What a call of a kernel computes and moves, by the shapes of what it is given.

Operations are counted as `Spec.flops_per_window` counts them. Bytes are those that a call reads and writes, each once:
weights, activations, caches as far as they are filled, and of tables the rows that are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from max_whisper.lowering.calls import Call, Operand
from max_whisper.spec import Spec
from max_whisper.tools.bench.ceilings import Ceilings

Work: TypeAlias = tuple[dict[str, int], int]  # operations by dtype, and bytes of the operands that are not touched

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "int64": 8}


@dataclass(frozen=True)
class Cost:
    """Of one call."""

    products: Mapping[str, int]  # operations by the dtype of the products: whose peak counts
    bytes: int

    @property
    def flops(self) -> int:
        return sum(self.products.values())


def arithmetic_ms(products: Mapping[str, int], ceilings: Ceilings) -> float:
    """Milliseconds of operations, by dtype, at the CPU's peaks.

    A CPU without products of a dtype has none of it that are faster than those of float32.
    """
    return sum(flops / ceilings.get(dtype, ceilings["float32"]) for dtype, flops in products.items()) / 1e6


def attention_products(dtype: str, flops: int) -> dict[str, int]:
    """Operations of `dense_attention` by dtype: of int8 are the products with the keys alone, half of all."""
    return {"int8": flops // 2, "bfloat16": flops // 2} if dtype == "int8" else {dtype: flops}


def cost(call: Call, spec: Spec, position: int) -> Cost:
    """position: tokens in the caches before this call. `spec` says how many inputs packed weights have."""
    sizes = [_size(x) for x in [*call.operands, *call.outputs]]
    products, unread = _KERNELS[call.kernel](call, spec, position)
    return Cost(products, sum(sizes) - unread)


def _dense_linear(call: Call, spec: Spec, position: int) -> Work:
    """Packed weights have zeros where the inputs do not fill a group."""
    batch, heads, rows, width = _dims(call.outputs[0])
    n_in = next(prod(tensor.shape[1:]) for tensor in spec.tensors() if tensor.name == call.operands[1].weight)
    return {call.operands[1].dtype: 2 * batch * rows * heads * width * n_in}, 0


def _skinny_linear(call: Call, spec: Spec, position: int) -> Work:
    """Products are float32 whatever the weights are."""
    n_out, n_in = _dims(call.operands[1])
    batch, rows, _ = _dims(call.outputs[0])
    return {"float32": 2 * batch * rows * n_out * n_in}, 0


def _dense_projections(call: Call, spec: Spec, position: int) -> Work:
    batch, rows, n_in = _dims(call.operands[0])
    return {call.operands[1].dtype: 3 * 2 * batch * rows * n_in * _dims(call.outputs[0])[2]}, 0


def _skinny_projections(call: Call, spec: Spec, position: int) -> Work:
    (flops,) = _dense_projections(call, spec, position)[0].values()
    return {"float32": flops}, 0


def _dense_attention(call: Call, spec: Spec, position: int) -> Work:
    batch, length, channels = _dims(call.outputs[0])
    return attention_products(call.dtype or "float32", 2 * 2 * batch * length * length * channels), 0


def _attention_over_memory(call: Call, spec: Spec, position: int) -> Work:
    batch, length, channels = _dims(call.outputs[0])
    n_keys = _dims(call.operands[1])[2]
    return {"float32": 2 * 2 * batch * length * n_keys * channels}, 0


def _attention_over_cache(call: Call, spec: Spec, position: int) -> Work:
    """Of the caches, what is behind the tokens is not read."""
    batch, length, channels = _dims(call.outputs[0])
    room, n_keys = _dims(call.operands[3])[2], position + length
    unread = 2 * batch * (room - n_keys) * channels * BYTES[call.operands[3].dtype]
    return {"float32": 2 * 2 * batch * length * n_keys * channels}, unread


def _choose_next_token(call: Call, spec: Spec, position: int) -> Work:
    n_vocab, n_in = _dims(call.operands[1])
    return {"float32": 2 * _dims(call.operands[0])[0] * n_vocab * n_in}, 0


def _token_embedding(call: Call, spec: Spec, position: int) -> Work:
    """A row of either table is read for a token, and a scale."""
    batch, length, _ = _dims(call.outputs[0])
    _, table, scales, positions, _ = call.operands
    unread = sum(_size(x) - batch * length * _size(x) // _dims(x)[0] for x in (table, positions))
    return {}, unread + _size(scales)


def _elementwise(call: Call, spec: Spec, position: int) -> Work:
    return {}, 0


_KERNELS: Mapping[str, Callable[[Call, Spec, int], Work]] = {
    "dense_linear": _dense_linear,
    "dense_projections": _dense_projections,
    "skinny_linear": _skinny_linear,
    "skinny_projections": _skinny_projections,
    "dense_attention": _dense_attention,
    "attention_over_memory": _attention_over_memory,
    "attention_over_cache": _attention_over_cache,
    "choose_next_token": _choose_next_token,
    "choose_token": _elementwise,
    "token_embedding": _token_embedding,
    "layer_norm": _elementwise,
}


def _dims(x: Operand) -> list[int]:
    return [int(dim) for dim in x.shape]


def _size(x: Operand) -> int:
    """Bytes."""
    return prod(_dims(x)) * BYTES[x.dtype]
