"""The queries, keys and values of a self-attention for many rows: three `gemm` of the same rows, packed once."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv

from .gemm import Block, Rows, load_block, multiply_block
from .parallel import for_each, thread_count
from .tile import elements_per_word


@extensibility.register("gemm_qkv")
struct GemmQKV:
    """Takes x [batch, length, in] and three packed matrices; returns q, k and v [batch, length, out].

    Weights, scales and layer normalization are as `gemm` takes them. As in Whisper, q and v have biases and k has none.
    """

    @staticmethod
    def execute[
        dtype: DType, has_norm: Bool, target: StaticString
    ](
        q: OutputTensor[dtype=DType.float32, rank=3, ...],
        k: OutputTensor[dtype=DType.float32, rank=3, ...],
        v: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        q_weights: InputTensor[dtype=dtype, rank=3, ...],
        k_weights: InputTensor[dtype=dtype, rank=3, ...],
        v_weights: InputTensor[dtype=dtype, rank=3, ...],
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
        var n_in = x.dim_size[2]()
        var rows = Rows.of[dtype](x.dim_size[0](), x.dim_size[1](), x.dim_size[1]() * n_in, n_in, n_in, 0)
        var n_out = q.dim_size[2]()
        var x_at = x.unsafe_ptr()
        var q_at = q.unsafe_ptr()
        var k_at = k.unsafe_ptr()
        var v_at = v.unsafe_ptr()
        var q_weights_at = q_weights.unsafe_ptr()
        var k_weights_at = k_weights.unsafe_ptr()
        var v_weights_at = v_weights.unsafe_ptr()
        var q_scales_at = q_scales.unsafe_ptr()
        var k_scales_at = k_scales.unsafe_ptr()
        var v_scales_at = v_scales.unsafe_ptr()
        var q_bias_at = q_bias.unsafe_ptr()
        var v_bias_at = v_bias.unsafe_ptr()
        var norm_weight_at = norm_weight.unsafe_ptr()
        var norm_bias_at = norm_bias.unsafe_ptr()
        var threads = thread_count(rows.strips())
        var size = rows.strips_per_item(threads)

        def item(i: Int) {imm}:
            var block = Block(rows, rows.padded_words * elements_per_word[dtype])

            @always_inline
            def multiply[
                has_bias: Bool
            ](
                first: Int,
                last: Int,
                weights: Pointer[Scalar[dtype], ...],
                scales: Pointer[Float32, ...],
                bias: Pointer[Float32, ...],
                y: Pointer[mut=True, Float32, ...],
            ) {imm}:
                multiply_block[dtype, DType.float32, has_bias, False, "none"](
                    rows, first, last, block, weights, scales, bias, x_at, 0, y, 1, n_out
                )

            var first = i * size
            var last = min(rows.strips(), first + size)
            load_block[dtype, has_norm](rows, first, last, x_at, norm_weight_at, norm_bias_at, eps, block)
            multiply[True](first, last, q_weights_at, q_scales_at, q_bias_at, q_at)
            multiply[False](first, last, k_weights_at, k_scales_at, q_bias_at, k_at)  # does not read the bias
            multiply[True](first, last, v_weights_at, v_scales_at, v_bias_at, v_at)

        for_each(ceildiv(rows.strips(), size), threads, item)
