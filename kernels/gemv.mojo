"""A linear layer for few rows, as a decode step has them.

    y = residual + activation(layernorm(x) @ weights^T + bias)

All but the product is optional; few_rows.mojo computes it.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.sys import size_of

from .few_rows import FewRows, Matrix, Norm, linear_range
from .parallel import BYTES_PER_THREAD, for_each, thread_count
from .tile import PANEL

comptime ITEMS_PER_THREAD = 4
"""Parts of a layer for each thread, so that one that comes late or is slow computes fewer of them."""


@always_inline
def outputs_per_item(n_out: Int, threads: Int) -> Int:
    """Returns how many outputs are computed at a time: whole panels, as a prompt's rows are multiplied with these."""
    return ceildiv(n_out, PANEL * ITEMS_PER_THREAD * threads) * PANEL


@extensibility.register("gemv")
struct Gemv:
    """Takes x [batch, length, in], weights [out, in] and optional operands; returns y [batch, length, out].

    The optional operands are those of `gemm`. Of the scales [2, out] of int8 weights, only the first row is read.
    """

    @staticmethod
    def execute[
        dtype: DType,
        has_norm: Bool,
        has_bias: Bool,
        has_residual: Bool,
        activation: StaticString,
        target: StaticString,
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        weights: InputTensor[dtype=dtype, rank=2, ...],
        scales: InputTensor[dtype=DType.float32, rank=2, ...],
        bias: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        residual: InputTensor[dtype=DType.float32, rank=3, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var n_rows = x.dim_size[0]() * x.dim_size[1]()
        var n_out = weights.dim_size[0]()
        var n_in = weights.dim_size[1]()
        var matrix = Matrix[dtype](weights.unsafe_ptr(), scales.unsafe_ptr(), bias.unsafe_ptr(), n_out, n_in)
        var residual_at = residual.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var rows = FewRows[dtype](n_rows, n_in)
        rows.fill[has_norm](x.unsafe_ptr(), Norm(norm_weight.unsafe_ptr(), norm_bias.unsafe_ptr(), eps))
        var threads = thread_count(n_out * n_in * size_of[Scalar[dtype]]() // BYTES_PER_THREAD)
        var size = outputs_per_item(n_out, threads)

        def item(i: Int) {imm}:
            var first = i * size
            linear_range[dtype, has_bias, has_residual, activation](
                rows, matrix, residual_at, y_at, first, min(n_out, first + size)
            )

        for_each(ceildiv(n_out, size), threads, item)
