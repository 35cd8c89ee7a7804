"""Linear layers: `gemm` with packed matrices for a whole window, `gemv` with plain ones for the few rows of a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from max.dtype import DType
from max.graph import DimLike, TensorValue, ops

from max_whisper.lowering.backends.cpu.costs import CostRule, Work, of_elements, of_product
from max_whisper.lowering.backends.cpu.operands import float_scalar, norm_operands, or_dummy, result
from max_whisper.lowering.backends.emission import Context, Emitter, Invocation, Matrix, scalar
from max_whisper.lowering.kernel_calls import KernelCall
from max_whisper.spec.ops import conv1d_length


def fused_linear(
    context: Context,
    x: TensorValue,
    weight: Matrix,
    bias: TensorValue | None = None,
    norm_weight: TensorValue | None = None,
    norm_bias: TensorValue | None = None,
    residual: TensorValue | None = None,
    *,
    activation: str,
    eps: float | None,
    stride: int | None,
    padding: int,
    heads: int | None,
    dtype: str,
) -> Invocation:
    """Returns activation(norm(x) @ weight.T + bias) + residual; everything but the product may be absent.

    x: float32 [batch, rows, channels]; the rows of a convolution overlap. The result is [batch, rows, out], or [batch,
    heads, rows, out / heads] where it is split into heads.
    """
    if residual is not None and residual.rank == 2:  # a table of positions, the same for each window
        residual = ops.unsqueeze(residual, 0)
    norm, eps_operand = norm_operands(norm_weight, norm_bias, eps)
    optional = [or_dummy(weight.scales, 2), or_dummy(bias, 1), *norm, or_dummy(residual, 3), eps_operand]
    operands = [x, weight.elements, *optional]
    parameters = {
        "has_norm": norm_weight is not None,
        "has_bias": bias is not None,
        "has_residual": residual is not None,
        "activation": activation,
    }
    if not weight.stored.packed:
        shape = [x.shape[0], x.shape[1], weight.stored.matrix_shape[0]]
        return Invocation("gemv", operands, [result(shape)], parameters)
    n_rows, layout = _rows(x, weight, stride, padding)
    operands += map(scalar, layout)
    return _gemm(operands, parameters, [x.shape[0], n_rows, weight.stored.matrix_shape[0]], heads, DType[dtype])


def _rows(x: TensorValue, weight: Matrix, stride: int | None, padding: int) -> tuple[DimLike, tuple[int, int, int]]:
    """Returns how many rows a product has, and where they lie in `x`: their length, stride and left padding."""
    n_in = weight.stored.matrix_shape[1]
    if stride is None:
        return x.shape[1], (n_in, n_in, 0)
    channels, kernel = weight.stored.shape[1:]
    n_rows = conv1d_length(int(x.shape[1]), kernel, stride=stride, padding=padding)
    return n_rows, (n_in, stride * channels, padding * channels)


def _gemm(
    operands: Sequence[TensorValue],
    parameters: Mapping[str, Any],
    shape: Sequence[DimLike],
    heads: int | None,
    dtype: DType,
) -> Invocation:
    """Returns a call of `gemm`, whose result has an axis of heads even where `shape` [batch, rows, out] has none."""
    batch, n_rows, n_out = shape
    n_heads = heads or 1
    split = [batch, n_heads, n_rows, int(n_out) // n_heads]
    return Invocation("gemm", operands, [result(split, dtype)], parameters, 1 if heads is None else None)


def gemm_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the product, without the zeros that fill up packed weights."""
    batch, heads, rows, channels = call.outputs[0].dims
    weights = call.operands[1]
    assert weights.matrix is not None
    return of_product(weights.dtype, batch * rows, heads * channels, weights.matrix[1])


def gemv_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of the product, which counts as float32's: reading the weights takes longer anyway."""
    n_out, n_in = call.operands[1].dims
    batch, rows, _ = call.outputs[0].dims
    return of_product("float32", batch * rows, n_out, n_in)


def qkv_projections(
    context: Context,
    x: TensorValue,
    q_weight: Matrix,
    k_weight: Matrix,
    v_weight: Matrix,
    q_bias: TensorValue,
    v_bias: TensorValue,
    norm_weight: TensorValue | None = None,
    norm_bias: TensorValue | None = None,
    *,
    eps: float | None,
) -> Invocation:
    """Returns queries, keys and values, [batch, rows, channels] each, of the same rows."""
    weights = [q_weight, k_weight, v_weight]
    elements = [weight.elements for weight in weights]
    scales = [or_dummy(weight.scales, 2) for weight in weights]
    norm, eps_operand = norm_operands(norm_weight, norm_bias, eps)
    kernel = "gemm_qkv" if q_weight.stored.packed else "gemv_qkv"
    shape = [x.shape[0], x.shape[1], q_weight.stored.shape[0]]
    operands = [x, *elements, *scales, q_bias, v_bias, *norm, eps_operand]
    return Invocation(kernel, operands, [result(shape)] * 3, {"has_norm": norm_weight is not None})


def gemm_qkv_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of three products."""
    batch, rows, n_in = call.operands[0].dims
    return of_product(call.operands[1].dtype, batch * rows, 3 * call.outputs[0].dims[2], n_in)


def gemv_qkv_cost(call: KernelCall, position: int) -> Work:
    """Returns the work of three products, which count as float32's."""
    batch, rows, n_in = call.operands[0].dims
    return of_product("float32", batch * rows, 3 * call.outputs[0].dims[2], n_in)


def layernorm(context: Context, x: TensorValue, weight: TensorValue, bias: TensorValue, *, eps: float) -> Invocation:
    """Returns the layer normalization of `x`, where no linear layer follows."""
    return Invocation("layernorm", [x, weight, bias, float_scalar(eps)], [result(x.shape)])


EMITTERS: dict[str, Emitter] = {
    "fused_linear": fused_linear,
    "qkv_projections": qkv_projections,
    "layernorm": layernorm,
}
COSTS: dict[str, CostRule] = {
    "gemm": gemm_cost,
    "gemv": gemv_cost,
    "gemm_qkv": gemm_qkv_cost,
    "gemv_qkv": gemv_qkv_cost,
    "layernorm": of_elements,
}
