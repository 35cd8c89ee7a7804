"""A layer of the decoder as one call, for the few rows of a token."""

from __future__ import annotations

from typing import Any

from max_whisper.lowering.backends.cpu.costs import CostRule, Work
from max_whisper.lowering.backends.cpu.operands import float_scalar, or_dummy, result
from max_whisper.lowering.backends.emission import Context, Emitter, Invocation, Matrix
from max_whisper.lowering.kernel_calls import KernelCall

OPERANDS = (
    "x",
    "self_norm_weight self_norm_bias q_weight q_bias k_weight v_weight v_bias key_cache value_cache position",
    "self_out_weight self_out_bias",
    "cross_norm_weight cross_norm_bias cross_q_weight cross_q_bias",
    "cross_keys cross_keys_scales cross_values cross_values_scales",
    "cross_out_weight cross_out_bias",
    "mlp_norm_weight mlp_norm_bias fc1_weight fc1_bias fc2_weight fc2_bias",
)
"""The operands of the kernel, in its order; scales follow each matrix, and eps comes last."""
NAMES = " ".join(OPERANDS).split()
OPTIONAL = frozenset({"cross_keys_scales", "cross_values_scales"})
"""The operands that only int8 keys and values of the features have."""


def decoder_layer(context: Context, *, eps: float, activation: str, **inputs: Any) -> Invocation:
    """Returns the layer's output and its cross-attention's queries, both [batch, rows, channels].

    Keys and values of the self-attention are written to the KV cache before.
    """
    operands = []
    for name in NAMES:
        value = inputs.get(name) if name in OPTIONAL else inputs[name]
        if isinstance(value, Matrix):
            operands += [value.elements, or_dummy(value.scales, 2)]
        else:
            operands.append(or_dummy(value, 3))
    return Invocation(
        "decoder_layer", [*operands, float_scalar(eps)], [result(inputs["x"].shape)] * 2, {"activation": activation}
    )


def decoder_layer_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the layer's products, and the part of the KV cache that is not filled and not read."""
    batch, length, channels = call.outputs[0].dims
    caches = [operand for operand in call.operands if len(operand.shape) == 4]
    n_keys, n_features = position + length, caches[2].dims[2]
    untouched = sum(cache.bytes // cache.dims[2] * (cache.dims[2] - n_keys) for cache in caches[:2])
    weights = sum(operand.matrix[0] * operand.matrix[1] for operand in call.operands if operand.matrix)
    products = 2 * batch * length * (weights + 2 * (n_keys + n_features) * channels)
    return {"float32": products}, untouched


EMITTERS: dict[str, Emitter] = {"decoder_layer": decoder_layer}
COSTS: dict[str, CostRule] = {"decoder_layer": decoder_layer_cost}
