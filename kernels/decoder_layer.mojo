"""A layer of the decoder for a few rows, in one call: self-attention, cross-attention and the linear layers after them.

    x += out_proj(self_attention(layernorm(x)))
    x += out_proj(cross_attention(layernorm(x)))
    y = x + fc2(activation(fc1(layernorm(x))))

As separate ops these would be eight calls, each of which wakes threads that have a few microseconds of work. Here they
stay, and go through the phases of the layer together (phases.mojo). Every number is computed by the functions that the
separate ops use, so that its bits are the same.
"""

import extensibility
from extensibility import InputTensor, OutputTensor, _MutableInputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc
from std.sys import size_of

from .attend import Memory, attend_memory
from .cached_attention import store_in_cache
from .few_rows import FewRows, Matrix, Norm, linear_range
from .gemv import outputs_per_item
from .parallel import BYTES_PER_THREAD, on_threads, thread_count
from .phases import Phases

comptime SELF_ATTENTION = 0
comptime SELF_PROJECTION = 1
comptime CROSS_ATTENTION = 2
comptime CROSS_PROJECTION = 3
comptime EXPANSION = 4
comptime CONTRACTION = 5
comptime N_PHASES = 6


@extensibility.register("decoder_layer")
struct DecoderLayer:
    """Takes x [texts, length, channels] of the tokens at `position` and after it; returns y and the cross-attention's
    queries, which are like it.

    Each text has a row in the self-attention's caches, and each window one in the keys and values of its features; each
    window has the same number of texts, which follow each other. All matrices have one dtype, and the three layer
    normalizations one `eps`. The other operands are those of `gemv`, `gemv_qkv`, `cached_attention` and
    `cross_attention`; each norm is its weight and its bias.
    """

    @staticmethod
    def execute[
        dtype: DType, cross_dtype: DType, activation: StaticString, target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        queries: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        self_norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        self_norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        q_weights: InputTensor[dtype=dtype, rank=2, ...],
        q_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        q_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        k_weights: InputTensor[dtype=dtype, rank=2, ...],
        k_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        v_weights: InputTensor[dtype=dtype, rank=2, ...],
        v_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        v_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        key_cache: _MutableInputTensor[dtype=DType.float32, rank=4, ...],
        value_cache: _MutableInputTensor[dtype=DType.float32, rank=4, ...],
        position: Int64,
        self_out_weights: InputTensor[dtype=dtype, rank=2, ...],
        self_out_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        self_out_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        cross_norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        cross_norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        cross_q_weights: InputTensor[dtype=dtype, rank=2, ...],
        cross_q_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        cross_q_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        cross_keys: InputTensor[dtype=cross_dtype, rank=4, ...],
        cross_keys_scales: InputTensor[dtype=DType.float32, rank=3, ...],
        cross_values: InputTensor[dtype=cross_dtype, rank=4, ...],
        cross_values_scales: InputTensor[dtype=DType.float32, rank=3, ...],
        cross_out_weights: InputTensor[dtype=dtype, rank=2, ...],
        cross_out_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        cross_out_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        mlp_norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        mlp_norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        fc1_weights: InputTensor[dtype=dtype, rank=2, ...],
        fc1_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        fc1_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        fc2_weights: InputTensor[dtype=dtype, rank=2, ...],
        fc2_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        fc2_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var texts = x.dim_size[0]()
        var length = x.dim_size[1]()
        var channels = x.dim_size[2]()
        var n_rows = texts * length
        var hidden_channels = fc1_weights.dim_size[0]()
        var heads = key_cache.dim_size[1]()
        var capacity = key_cache.dim_size[2]()
        var head_dim = key_cache.dim_size[3]()
        var cross_heads = cross_keys.dim_size[1]()
        var n_features = cross_keys.dim_size[2]()
        var cross_head_dim = cross_keys.dim_size[3]()
        var windows = cross_keys.dim_size[0]()
        var rows_of_window = n_rows // windows
        var first = Int(position)
        if texts % windows != 0:
            raise Error("not as many texts of each window")
        if first + length > capacity:
            raise Error("a token behind the end of the text context")

        # Keys have no bias, and the cache no scales: others stand there, which are not read.
        var q_matrix = Matrix[dtype](
            q_weights.unsafe_ptr(), q_scales.unsafe_ptr(), q_bias.unsafe_ptr(), channels, channels
        )
        var k_matrix = Matrix[dtype](
            k_weights.unsafe_ptr(), k_scales.unsafe_ptr(), q_bias.unsafe_ptr(), channels, channels
        )
        var v_matrix = Matrix[dtype](
            v_weights.unsafe_ptr(), v_scales.unsafe_ptr(), v_bias.unsafe_ptr(), channels, channels
        )
        var self_out = Matrix[dtype](
            self_out_weights.unsafe_ptr(), self_out_scales.unsafe_ptr(), self_out_bias.unsafe_ptr(), channels, channels
        )
        var cross_q = Matrix[dtype](
            cross_q_weights.unsafe_ptr(), cross_q_scales.unsafe_ptr(), cross_q_bias.unsafe_ptr(), channels, channels
        )
        var cross_out = Matrix[dtype](
            cross_out_weights.unsafe_ptr(),
            cross_out_scales.unsafe_ptr(),
            cross_out_bias.unsafe_ptr(),
            channels,
            channels,
        )
        var fc1 = Matrix[dtype](
            fc1_weights.unsafe_ptr(), fc1_scales.unsafe_ptr(), fc1_bias.unsafe_ptr(), hidden_channels, channels
        )
        var fc2 = Matrix[dtype](
            fc2_weights.unsafe_ptr(), fc2_scales.unsafe_ptr(), fc2_bias.unsafe_ptr(), channels, hidden_channels
        )
        var self_norm = Norm(self_norm_weight.unsafe_ptr(), self_norm_bias.unsafe_ptr(), eps)
        var cross_norm = Norm(cross_norm_weight.unsafe_ptr(), cross_norm_bias.unsafe_ptr(), eps)
        var mlp_norm = Norm(mlp_norm_weight.unsafe_ptr(), mlp_norm_bias.unsafe_ptr(), eps)

        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var queries_at = queries.unsafe_ptr()
        var key_cache_at = key_cache.unsafe_ptr()
        var value_cache_at = value_cache.unsafe_ptr()
        var self_memory = Memory[DType.float32](
            key_cache_at, value_cache_at, key_cache_at, value_cache_at, heads, capacity, head_dim
        )
        var cross_memory = Memory[cross_dtype](
            cross_keys.unsafe_ptr(),
            cross_values.unsafe_ptr(),
            cross_keys_scales.unsafe_ptr(),
            cross_values_scales.unsafe_ptr(),
            cross_heads,
            n_features,
            cross_head_dim,
        )

        var size = n_rows * channels
        # No phase writes what an earlier one reads, because a late thread may still read it in vain.
        var scratch = unsafe_alloc[Float32](7 * size + n_rows * hidden_channels)
        var q_at = scratch
        var k_at = scratch.unsafe_offset(size)
        var v_at = scratch.unsafe_offset(2 * size)
        var self_attended = scratch.unsafe_offset(3 * size)
        var cross_attended = scratch.unsafe_offset(4 * size)
        var after_self = scratch.unsafe_offset(5 * size)
        var after_cross = scratch.unsafe_offset(6 * size)
        var hidden = scratch.unsafe_offset(7 * size)

        var bytes = (6 * channels + 2 * hidden_channels) * channels * size_of[Scalar[dtype]]()
        var threads = thread_count(bytes // BYTES_PER_THREAD)
        var phases = Phases(N_PHASES)

        def layer(thread: Int) {imm}:
            if phases.is_open(SELF_ATTENTION, heads):
                var rows = FewRows[dtype](n_rows, channels)
                rows.fill[True](x_at, self_norm)

                def self_attention(head: Int) {imm}:
                    var begin = head * head_dim
                    var end = begin + head_dim
                    linear_range[dtype, True, False, "none"](rows, q_matrix, x_at, q_at, begin, end)
                    linear_range[dtype, False, False, "none"](rows, k_matrix, x_at, k_at, begin, end)
                    linear_range[dtype, True, False, "none"](rows, v_matrix, x_at, v_at, begin, end)
                    for text in range(texts):
                        store_in_cache(
                            k_at, key_cache_at, text, head, length, heads, head_dim, capacity, first
                        )
                        store_in_cache(
                            v_at, value_cache_at, text, head, length, heads, head_dim, capacity, first
                        )
                        attend_memory[DType.float32](
                            q_at, self_memory, self_attended, text, head, length, first + length, first
                        )

                phases.run(SELF_ATTENTION, heads, self_attention)
            phases.wait(SELF_ATTENTION, heads)
            project[dtype, False, True, "none"](
                phases, SELF_PROJECTION, threads, n_rows, self_attended, self_norm, self_out, x_at, after_self
            )

            if phases.is_open(CROSS_ATTENTION, cross_heads):
                var rows = FewRows[dtype](n_rows, channels)
                rows.fill[True](after_self, cross_norm)

                def cross_attention(head: Int) {imm}:
                    var begin = head * cross_head_dim
                    var end = begin + cross_head_dim
                    linear_range[dtype, True, False, "none"](rows, cross_q, x_at, queries_at, begin, end)
                    for window in range(windows):  # every row sees all features, so that its texts are as one
                        attend_memory[cross_dtype](
                            queries_at,
                            cross_memory,
                            cross_attended,
                            window,
                            head,
                            rows_of_window,
                            n_features,
                            n_features,
                        )

                phases.run(CROSS_ATTENTION, cross_heads, cross_attention)
            phases.wait(CROSS_ATTENTION, cross_heads)
            project[dtype, False, True, "none"](
                phases,
                CROSS_PROJECTION,
                threads,
                n_rows,
                cross_attended,
                cross_norm,
                cross_out,
                after_self,
                after_cross,
            )
            project[dtype, True, False, activation](
                phases, EXPANSION, threads, n_rows, after_cross, mlp_norm, fc1, x_at, hidden
            )
            project[dtype, False, True, "none"](
                phases, CONTRACTION, threads, n_rows, hidden, mlp_norm, fc2, after_cross, y_at
            )

        on_threads(threads, layer)
        scratch.unsafe_free()


@always_inline
def project[
    dtype: DType, has_norm: Bool, has_residual: Bool, activation: StaticString
](
    phases: Phases,
    phase: Int,
    threads: Int,
    n_rows: Int,
    x: Pointer[Float32, ...],
    norm: Norm,
    matrix: Matrix[dtype],
    residual: Pointer[Float32, ...],
    y: Pointer[mut=True, Float32, ...],
):
    """Goes through a phase that computes a linear layer: residual + activation(norm(x) @ weights^T + bias).

    A norm or residual that is not asked for is not read.
    """
    var size = outputs_per_item(matrix.n_out, threads)
    var items = ceildiv(matrix.n_out, size)
    if phases.is_open(phase, items):
        var rows = FewRows[dtype](n_rows, matrix.n_in)
        rows.fill[has_norm](x, norm)

        def outputs(item: Int) {imm}:
            var first = item * size
            var last = min(matrix.n_out, first + size)
            linear_range[dtype, True, has_residual, activation](rows, matrix, residual, y, first, last)

        phases.run(phase, items, outputs)
    phases.wait(phase, items)
