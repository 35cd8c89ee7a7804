"""The queries, keys and values of a self-attention for few rows: three `gemv` of the same rows in one call."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.sys import size_of

from .few_rows import FewRows, Matrix, Norm, linear_range
from .gemv import outputs_per_item
from .parallel import BYTES_PER_THREAD, for_each, thread_count


@extensibility.register("gemv_qkv")
struct GemvQKV:
    """Takes x [batch, length, in] and three matrices; returns q, k and v [batch, length, out].

    Weights, scales and layer normalization are as `gemv` takes them. As in Whisper, q and v have biases and k has none.
    """

    @staticmethod
    def execute[
        dtype: DType, has_norm: Bool, target: StaticString
    ](
        q: OutputTensor[dtype=DType.float32, rank=3, ...],
        k: OutputTensor[dtype=DType.float32, rank=3, ...],
        v: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        q_weights: InputTensor[dtype=dtype, rank=2, ...],
        k_weights: InputTensor[dtype=dtype, rank=2, ...],
        v_weights: InputTensor[dtype=dtype, rank=2, ...],
        q_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        k_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        v_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        q_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        v_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var n_rows = x.dim_size[0]() * x.dim_size[1]()
        var n_out = q_weights.dim_size[0]()
        var n_in = q_weights.dim_size[1]()
        var q_matrix = Matrix[dtype](q_weights.unsafe_ptr(), q_scales.unsafe_ptr(), q_bias.unsafe_ptr(), n_out, n_in)
        var k_matrix = Matrix[dtype](k_weights.unsafe_ptr(), k_scales.unsafe_ptr(), q_bias.unsafe_ptr(), n_out, n_in)
        var v_matrix = Matrix[dtype](v_weights.unsafe_ptr(), v_scales.unsafe_ptr(), v_bias.unsafe_ptr(), n_out, n_in)
        var x_at = x.unsafe_ptr()
        var q_at = q.unsafe_ptr()
        var k_at = k.unsafe_ptr()
        var v_at = v.unsafe_ptr()
        var rows = FewRows[dtype](n_rows, n_in)
        rows.fill[has_norm](x_at, Norm(norm_weight.unsafe_ptr(), norm_bias.unsafe_ptr(), eps))
        var threads = thread_count(3 * n_out * n_in * size_of[Scalar[dtype]]() // BYTES_PER_THREAD)
        var size = outputs_per_item(n_out, threads)

        def item(i: Int) {imm}:
            """Computes some columns of q, k and v. The residuals, and the bias of k, are dummies."""
            var first = i * size
            var last = min(n_out, first + size)
            linear_range[dtype, True, False, "none"](rows, q_matrix, x_at, q_at, first, last)
            linear_range[dtype, False, False, "none"](rows, k_matrix, x_at, k_at, first, last)
            linear_range[dtype, True, False, "none"](rows, v_matrix, x_at, v_at, first, last)

        for_each(ceildiv(n_out, size), threads, item)
