"""The queries, keys and values of a self-attention for few rows: three `gemv` of the same rows in one call."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.memory.alloc import unsafe_alloc
from std.sys import size_of

from .gemv import finish_range, multiply_range, outputs_per_task
from .numerics import normalize_rows
from .parallel import BYTES_PER_TASK, task_count


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
        var tasks = task_count(3 * n_out * n_in * size_of[Scalar[dtype]]() // BYTES_PER_TASK)
        var per_task = outputs_per_task(n_out, tasks)

        @always_inline
        def project(rows: Pointer[Float32, ...], first: Int, last: Int) {imm}:
            """Writes the columns first to last of q, k and v. The bias of k and the residuals are dummies."""
            multiply_range[dtype](rows, q_weights_at, q_at, n_rows, n_in, n_out, first, last)
            multiply_range[dtype](rows, k_weights_at, k_at, n_rows, n_in, n_out, first, last)
            multiply_range[dtype](rows, v_weights_at, v_at, n_rows, n_in, n_out, first, last)
            finish_range[dtype, True, False, "none"](q_scales_at, q_bias_at, x_at, q_at, n_rows, n_out, first, last)
            comptime if dtype == DType.int8:
                finish_range[dtype, False, False, "none"](
                    k_scales_at, q_bias_at, x_at, k_at, n_rows, n_out, first, last
                )
            finish_range[dtype, True, False, "none"](v_scales_at, v_bias_at, x_at, v_at, n_rows, n_out, first, last)

        def task(i: Int) raises {imm}:
            var first = min(n_out, i * per_task)
            var last = min(n_out, first + per_task)
            comptime if has_norm:
                var normed = unsafe_alloc[Float32](n_rows * n_in)
                normalize_rows(x_at, norm_weight_at, norm_bias_at, eps, normed, n_rows, n_in)
                project(normed, first, last)
                normed.unsafe_free()
            else:
                project(x_at, first, last)

        if tasks == 1:
            task(0)
        else:
            sync_parallelize(task, tasks)
