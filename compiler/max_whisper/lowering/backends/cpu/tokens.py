"""Tokens: their embedding with positions, and the choice of the next token."""

from __future__ import annotations

from max.dtype import DType
from max.graph import TensorType, TensorValue

from max_whisper.lowering.backends.cpu.costs import CostRule, Work, of_elements, of_product
from max_whisper.lowering.backends.cpu.operands import float_scalar, or_dummy, result
from max_whisper.lowering.backends.emission import Context, Emitter, Invocation, Matrix
from max_whisper.lowering.kernel_calls import KernelCall


def token_embedding(
    context: Context, tokens: TensorValue, table: Matrix, positions: TensorValue, position: TensorValue
) -> Invocation:
    """Returns the rows of the table for tokens [texts, length], plus the rows of their positions."""
    operands = [tokens, table.elements, or_dummy(table.scales, 2), positions, position]
    return Invocation("token_embedding", operands, [result([*tokens.shape, positions.shape[1]])])


def token_embedding_cost(call: KernelCall, position: int) -> Work:
    """Returns no products; one row of each table is read for each token, and scales do not count."""
    batch, length, _ = call.outputs[0].dims
    _, table, scales, positions, _ = call.operands
    untouched = sum(x.bytes - batch * length * x.bytes // x.dims[0] for x in (table, positions))
    return {}, untouched + scales.bytes


def choose_token(
    context: Context, logits: TensorValue, mask: TensorValue, allowed: TensorValue, noise: TensorValue
) -> Invocation:
    """Returns the next token, int64 [texts, length], and its log-probability, by the last rows of logits."""
    return Invocation("choose_token", [logits, mask, allowed, noise], _chosen(noise))


def fused_choose_token(
    context: Context,
    x: TensorValue,
    weight: Matrix,
    norm_weight: TensorValue,
    norm_bias: TensorValue,
    mask: TensorValue,
    allowed: TensorValue,
    noise: TensorValue,
    *,
    eps: float,
) -> Invocation:
    """Returns what `choose_token` returns for the logits norm(x) @ weight.T, which are not written to memory."""
    scales = or_dummy(weight.scales, 2)
    operands = [x, weight.elements, scales, norm_weight, norm_bias, float_scalar(eps), mask, allowed, noise]
    return Invocation("fused_choose_token", operands, _chosen(noise))


def fused_choose_token_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the product with the vocabulary."""
    n_vocab, n_in = call.operands[1].dims
    texts, length, _ = call.operands[0].dims
    return of_product("float32", texts * length, n_vocab, n_in)


def token_probability(context: Context, logits: TensorValue, token: TensorValue) -> Invocation:
    """Returns the probability [texts, 1] of one token, an int64 scalar, by the first row of logits."""
    return Invocation("token_probability", [logits, token], [result([logits.shape[0], 1])])


def _chosen(noise: TensorValue) -> list[TensorType]:
    """Returns the types of tokens and their log-probabilities, [texts, length] as of noise [texts, length, n_vocab]."""
    return [result(noise.shape[:2], dtype) for dtype in (DType.int64, DType.float32)]


EMITTERS: dict[str, Emitter] = {
    "token_embedding": token_embedding,
    "choose_token": choose_token,
    "fused_choose_token": fused_choose_token,
    "token_probability": token_probability,
}
COSTS: dict[str, CostRule] = {
    "token_embedding": token_embedding_cost,
    "choose_token": of_elements,
    "fused_choose_token": fused_choose_token_cost,
    "token_probability": of_elements,
}
