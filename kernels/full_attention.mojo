"""The attention of a whole window to itself, as the encoder has it: bound by arithmetic.

For each head, keys and values are packed as panels (tile.mojo), which stay in the L2 cache. Then, for a few rows of
queries and some of the keys at a time, scores are computed, go through the softmax, and weight the values; none of that
leaves the L1 cache. Sums and softmax are float32.

Of int8, pack_attention.mojo and online_softmax.mojo say what has how many bits.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv, gcd
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc
from std.utils.numerics import neg_inf

from .numerics import LANES, store_partial
from .online_softmax import online_softmax
from .pack_attention import KEYS, group_size, pack_keys, pack_queries, pack_values, value_dtype
from .parallel import for_each, thread_count
from .tile import PANEL, ROWS, elements_per_word, multiply_tile, sum_dtype


@extensibility.register("full_attention")
struct FullAttention:
    """Takes q, k and v [batch, length, heads * head_dim]; returns y like them: softmax(q k^T / sqrt(head_dim)) v.

    The dtype is that of the products with the keys: float32, bfloat16 or int8; `value_dtype` says that of the others.
    """

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        k: InputTensor[dtype=DType.float32, rank=3, ...],
        v: InputTensor[dtype=DType.float32, rank=3, ...],
        heads: Int64,
        ctx: DeviceContext,
    ) raises:
        var length = q.dim_size[1]()
        var row_stride = q.dim_size[2]()
        var n_heads = Int(heads)
        var head_dim = row_stride // n_heads
        var pairs = q.dim_size[0]() * n_heads
        var q_at = q.unsafe_ptr()
        var k_at = k.unsafe_ptr()
        var v_at = v.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var threads = thread_count(pairs * length)
        var parts = threads // gcd(pairs, threads)  # the rows of each head are cut into these, for equal work

        def attend(item: Int) {imm}:
            var pair = item // parts  # of a window and a head
            var part = item % parts
            var head = pair // n_heads * length * row_stride + pair % n_heads * head_dim
            attend_head[dtype](
                q_at.unsafe_offset(head),
                k_at.unsafe_offset(head),
                v_at.unsafe_offset(head),
                y_at.unsafe_offset(head),
                row_stride,
                length,
                head_dim,
                part * length // parts,
                (part + 1) * length // parts,
            )

        for_each(pairs * parts, threads, attend)


def attend_head[
    dtype: DType
](
    q: Pointer[Float32, ...],
    k: Pointer[Float32, ...],
    v: Pointer[Float32, ...],
    y: Pointer[mut=True, Float32, ...],
    row_stride: Int,
    length: Int,
    head_dim: Int,
    first_row: Int,
    last_row: Int,
):
    """Writes the rows first_row to last_row of y, for one head of one window; all rows are row_stride apart."""
    comptime size = elements_per_word[dtype]
    comptime weight_dtype = value_dtype[dtype]
    comptime weights_stride = KEYS // elements_per_word[weight_dtype] + LANES
    var padded_keys = ceildiv(length, group_size[dtype]) * group_size[dtype]
    var head_words = ceildiv(head_dim, size)
    var value_panels = ceildiv(head_dim, PANEL)
    var query_stride = ceildiv(head_words, LANES) * LANES + LANES
    var keys = unsafe_alloc[Scalar[dtype]](padded_keys * head_words * size)
    var initial = unsafe_alloc[Scalar[sum_dtype[dtype]]](padded_keys)
    var values = unsafe_alloc[Scalar[weight_dtype]](value_panels * PANEL * padded_keys)
    var line = unsafe_alloc[Float32](query_stride * size)
    var queries = unsafe_alloc[UInt32](ROWS * query_stride)
    var scores = unsafe_alloc[Scalar[sum_dtype[dtype]]](ROWS * KEYS)
    var weights = unsafe_alloc[UInt32](ROWS * weights_stride)
    var weighted = unsafe_alloc[Float32](value_panels * ROWS * PANEL)
    var value_scales = unsafe_alloc[Float32](value_panels * PANEL)
    # Of each row, with room for a vector of rows:
    var scales = stack_allocation[LANES, Float32]()
    var maxima = stack_allocation[LANES, Float32]()
    var rescale = stack_allocation[LANES, Float32]()
    var totals = stack_allocation[ROWS * LANES, Float32]()
    var keys_scale = pack_keys[dtype](k, row_stride, length, head_dim, keys, initial)
    pack_values[weight_dtype](v, row_stride, length, head_dim, values, value_scales)
    for i in range(query_stride * size):
        line.unsafe_store(i, Float32(0))
    for first in range(first_row, last_row, ROWS):
        pack_queries[dtype](q, row_stride, first, last_row, head_dim, keys_scale, line, queries, query_stride, scales)
        maxima.unsafe_store(0, SIMD[DType.float32, LANES](neg_inf[DType.float32]()))
        for i in range(ROWS):
            totals.unsafe_store(i * LANES, SIMD[DType.float32, LANES](0))
        for i in range(0, value_panels * ROWS * PANEL, LANES):
            weighted.unsafe_store(i, SIMD[DType.float32, LANES](0))
        for start in range(0, length, KEYS):
            var n_keys = min(KEYS, length - start)
            for panel in range(ceildiv(n_keys, PANEL)):
                var key = start + panel * PANEL
                multiply_tile[dtype](
                    queries,
                    query_stride,
                    keys.unsafe_offset(key * head_words * size),
                    head_words,
                    initial.unsafe_offset(key),
                    scores.unsafe_offset(panel * PANEL),
                    KEYS,
                )
            online_softmax[dtype](scores, n_keys, scales, maxima, totals, weights, weights_stride, rescale)
            var n_words = ceildiv(n_keys, group_size[dtype]) * group_size[dtype] // elements_per_word[weight_dtype]
            add_values[weight_dtype](
                weights, weights_stride, n_words, values, start, padded_keys, value_panels, rescale, weighted
            )
        for i in range(min(ROWS, last_row - first)):
            var total = totals.unsafe_load[width=LANES](i * LANES).reduce_add()
            for c in range(0, head_dim, LANES):
                var at = (c // PANEL * ROWS + i) * PANEL + c % PANEL
                var scale = value_scales.unsafe_load[width=LANES](c) / total
                var value = weighted.unsafe_load[width=LANES](at) * scale
                store_partial(y.unsafe_offset((first + i) * row_stride + c), value, min(LANES, head_dim - c))
    keys.unsafe_free()
    initial.unsafe_free()
    values.unsafe_free()
    line.unsafe_free()
    queries.unsafe_free()
    scores.unsafe_free()
    weights.unsafe_free()
    weighted.unsafe_free()
    value_scales.unsafe_free()


@always_inline
def add_values[
    dtype: DType
](
    weights: Pointer[UInt32, ...],
    weights_stride: Int,
    n_words: Int,
    values: Pointer[Scalar[dtype], ...],
    start: Int,
    padded_keys: Int,
    value_panels: Int,
    rescale: Pointer[Float32, ...],
    weighted: Pointer[mut=True, Float32, ...],
):
    """Rescales `weighted` [value_panels, ROWS, PANEL], and adds the weighted values of n_words words."""
    var zeros = stack_allocation[PANEL, Scalar[sum_dtype[dtype]]]()
    var sums = stack_allocation[ROWS * PANEL, Scalar[sum_dtype[dtype]]]()
    for i in range(PANEL):
        zeros.unsafe_store(i, Scalar[sum_dtype[dtype]](0))
    for panel in range(value_panels):
        var place = panel * PANEL * padded_keys + start * PANEL
        multiply_tile[dtype](weights, weights_stride, values.unsafe_offset(place), n_words, zeros, sums)
        for i in range(ROWS):
            for c in range(0, PANEL, LANES):
                var at = weighted.unsafe_offset((panel * ROWS + i) * PANEL + c)
                var sum = sums.unsafe_load[width=LANES](i * PANEL + c).cast[DType.float32]()
                at.unsafe_store(0, at.unsafe_load[width=LANES](0).fma(rescale.unsafe_load(i), sum))
