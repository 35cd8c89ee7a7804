"""The attention of a whole window to itself, as the encoder has it: bound by arithmetic.

For each head, keys and values are packed as panels (tile.mojo), which stay in the L2 cache. Then, for a few rows of
queries and some of the keys at a time, scores are computed, go through the softmax, and weight the values; none of that
leaves the L1 cache. Where later keys have a larger score, the sums so far are scaled down to it (the online softmax of
Milakov and Gimelshein, 2018). Sums and softmax are float32.

In int8, queries and keys have 8 bits, with a scale for each query and one for all keys of a head; attention weights and
values are bfloat16. The mean of the keys is subtracted from each of them. That changes all scores of a query by the
same amount, and so no attention weight, but leaves smaller numbers to round (SageAttention, Zhang et al., 2024).
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.math import ceildiv, gcd, iota, rsqrt
from std.memory import bitcast, stack_allocation
from std.memory.alloc import unsafe_alloc
from std.utils.numerics import neg_inf

from .numerics import LANES, copy, exp2, load_partial, simd_max, store_partial
from .parallel import task_count
from .tile import (
    PANEL,
    ROWS,
    ZERO_POINT,
    elements_per_word,
    int8_scale,
    max_abs,
    multiply_tile,
    pack_row,
    quantize,
    sum_dtype,
    to_bfloat16,
)

comptime KEYS = 12 * PANEL
"""Keys whose scores are computed together."""
comptime LOG2_E = 1.4426950408889634
comptime value_dtype[dtype: DType]: DType = DType.float32 if dtype == DType.float32 else DType.bfloat16
"""The dtype of attention weights and values, by that of queries and keys."""


@extensibility.register("full_attention")
struct FullAttention:
    """Takes q, k and v [batch, length, heads * head_dim]; returns y like them: softmax(q k^T / sqrt(head_dim)) v.

    The dtype is that of the products: float32, bfloat16, or int8 for queries and keys.
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
        var tasks = task_count(pairs * length)
        var parts = tasks // gcd(pairs, tasks)  # the rows of each head are cut into these, so that all tasks are equal
        var items = pairs * parts

        def task(i: Int) raises {imm}:
            for item in range(i * items // tasks, (i + 1) * items // tasks):
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

        sync_parallelize(task, tasks)


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
    var padded_keys = ceildiv(length, PANEL) * PANEL
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
    # Of each row, with room for a vector of rows:
    var scales = stack_allocation[LANES, Float32]()
    var maxima = stack_allocation[LANES, Float32]()
    var rescale = stack_allocation[LANES, Float32]()
    var totals = stack_allocation[ROWS * LANES, Float32]()
    var keys_scale = pack_keys[dtype](k, row_stride, length, head_dim, keys, initial)
    pack_values[weight_dtype](v, row_stride, length, head_dim, values)
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
            add_values[weight_dtype](
                weights, weights_stride, values, start, n_keys, padded_keys, value_panels, rescale, weighted
            )
        for i in range(min(ROWS, last_row - first)):
            var total = totals.unsafe_load[width=LANES](i * LANES).reduce_add()
            for c in range(0, head_dim, LANES):
                var at = (c // PANEL * ROWS + i) * PANEL + c % PANEL
                store_partial(
                    y.unsafe_offset((first + i) * row_stride + c),
                    weighted.unsafe_load[width=LANES](at) / total,
                    min(LANES, head_dim - c),
                )
    keys.unsafe_free()
    initial.unsafe_free()
    values.unsafe_free()
    line.unsafe_free()
    queries.unsafe_free()
    scores.unsafe_free()
    weights.unsafe_free()
    weighted.unsafe_free()


def pack_keys[
    dtype: DType
](
    k: Pointer[Float32, ...],
    row_stride: Int,
    n_keys: Int,
    head_dim: Int,
    keys: Pointer[mut=True, Scalar[dtype], ...],
    initial: Pointer[mut=True, Scalar[sum_dtype[dtype]], ...],
) -> Float32:
    """Writes the keys as panels, [panels, words of a key, PANEL keys, elements of a word], and returns their scale.

    Writes to `initial` [keys] what the score of each key begins with: in int8, -ZERO_POINT times the sum of the key's
    elements, because a query's zero is ZERO_POINT.
    """
    comptime size = elements_per_word[dtype]
    var n_words = ceildiv(head_dim, size)
    var padded_words = ceildiv(n_words, LANES) * LANES
    var line = unsafe_alloc[Float32](padded_words * size)
    var mean = unsafe_alloc[Float32](padded_words * size)
    var words = unsafe_alloc[UInt32](padded_words)
    for i in range(padded_words * size):
        line.unsafe_store(i, Float32(0))
        mean.unsafe_store(i, Float32(0))
    var scale = Float32(1)
    comptime if dtype == DType.int8:
        mean_of_rows(k, row_stride, n_keys, head_dim, mean)
        var largest = Float32(0)
        for t in range(n_keys):
            subtract(k.unsafe_offset(t * row_stride), mean, line, head_dim)
            largest = max(largest, max_abs(line, head_dim))
        scale = int8_scale(largest)
    for t in range(ceildiv(n_keys, PANEL) * PANEL):
        if t >= n_keys:
            for c in range(head_dim):
                line.unsafe_store(c, Float32(0))
        elif dtype == DType.int8:
            subtract(k.unsafe_offset(t * row_stride), mean, line, head_dim)
        else:
            copy(k.unsafe_offset(t * row_stride), line, head_dim)
        comptime if dtype == DType.int8:
            var total = quantize[0](line, head_dim, scale, words)
            initial.unsafe_store(t, Scalar[sum_dtype[dtype]](-ZERO_POINT * total))
        else:
            initial.unsafe_store(t, Scalar[sum_dtype[dtype]](0))
            _ = pack_row[dtype](line, head_dim, words)
        for w in range(n_words):
            var place = (t // PANEL * n_words + w) * PANEL + t % PANEL
            keys.unsafe_store(place * size, bitcast[dtype, size](words.unsafe_load(w)))
    line.unsafe_free()
    mean.unsafe_free()
    words.unsafe_free()
    return scale


def mean_of_rows(
    x: Pointer[Float32, ...], row_stride: Int, n_rows: Int, n: Int, mean: Pointer[mut=True, Float32, ...]
):
    """Writes the mean of n_rows rows of n numbers, row_stride apart."""
    for c in range(0, n, LANES):
        var valid = min(LANES, n - c)
        var sums = SIMD[DType.float32, LANES](0)
        for t in range(n_rows):
            sums += load_partial(x.unsafe_offset(t * row_stride + c), valid)
        store_partial(mean.unsafe_offset(c), sums / Float32(n_rows), valid)


@always_inline
def subtract(x: Pointer[Float32, ...], y: Pointer[Float32, ...], difference: Pointer[mut=True, Float32, ...], n: Int):
    """Writes x - y, of n numbers each."""
    for c in range(0, n, LANES):
        var valid = min(LANES, n - c)
        var vector = load_partial(x.unsafe_offset(c), valid) - load_partial(y.unsafe_offset(c), valid)
        store_partial(difference.unsafe_offset(c), vector, valid)


def pack_values[
    dtype: DType
](v: Pointer[Float32, ...], row_stride: Int, n_keys: Int, head_dim: Int, values: Pointer[mut=True, Scalar[dtype], ...]):
    """Writes the values as panels of channels: [panels, words of keys, PANEL channels, elements of a word]."""
    comptime size = elements_per_word[dtype]
    var n_words = ceildiv(n_keys, PANEL) * PANEL // size
    for w in range(n_words):
        for c in range(0, ceildiv(head_dim, PANEL) * PANEL, LANES):
            var rows = stack_allocation[size, SIMD[DType.float32, LANES]]()
            comptime for i in range(size):
                var key = w * size + i
                var valid = max(0, min(LANES, head_dim - c)) if key < n_keys else 0
                rows[unsafe_offset=i] = load_partial(v.unsafe_offset(key * row_stride + c), valid)
            var place = ((c // PANEL * n_words + w) * PANEL + c % PANEL) * size
            comptime if size == 1:
                values.unsafe_store(place, rows[unsafe_offset=0].cast[dtype]())
            else:
                values.unsafe_store(place, rows[unsafe_offset=0].interleave(rows[unsafe_offset=1]).cast[dtype]())


@always_inline
def pack_queries[
    dtype: DType
](
    q: Pointer[Float32, ...],
    row_stride: Int,
    first: Int,
    last_row: Int,
    head_dim: Int,
    keys_scale: Float32,
    line: Pointer[mut=True, Float32, ...],
    queries: Pointer[mut=True, UInt32, ...],
    query_stride: Int,
    scales: Pointer[mut=True, Float32, ...],
):
    """Writes ROWS queries from `first` as words, and the scale of each row's scores; the last row fills up a tile.

    Queries are multiplied with log2(e) / sqrt(head_dim), so that the softmax takes powers of 2. `line` is scratch.
    """
    var factor = Float32(LOG2_E) * rsqrt(Float32(head_dim))
    for i in range(ROWS):
        var row = q.unsafe_offset(min(first + i, last_row - 1) * row_stride)
        for c in range(0, head_dim, LANES):
            line.unsafe_store(c, load_partial(row.unsafe_offset(c), min(LANES, head_dim - c)) * factor)
        var row_scale = pack_row[dtype](line, head_dim, queries.unsafe_offset(i * query_stride))
        scales.unsafe_store(i, row_scale * keys_scale)


@always_inline
def online_softmax[
    dtype: DType
](
    scores: Pointer[mut=True, Scalar[sum_dtype[dtype]], ...],
    n: Int,
    scales: Pointer[Float32, ...],
    maxima: Pointer[mut=True, Float32, ...],
    totals: Pointer[mut=True, Float32, ...],
    weights: Pointer[mut=True, UInt32, ...],
    weights_stride: Int,
    rescale: Pointer[mut=True, Float32, ...],
):
    """Writes the attention weights of n keys, not yet divided by their sum, for ROWS rows.

    A weight is 2^(score - the row's largest score so far); zeros fill up a panel.

    Args:
        scores: ROWS rows of KEYS; times the row's scale, they are the scores.
        n: The number of keys.
        scales: The scale of each row's scores.
        maxima: The largest score of each row so far, which is updated. Has room for LANES rows.
        totals: [ROWS, LANES], whose rows add up to the sum of all weights so far, which are updated.
        weights: ROWS rows of words, weights_stride apart.
        weights_stride: Words from a row of weights to the next.
        rescale: What sums with the weights before must be multiplied with, for each row. Has room for LANES rows.
    """
    comptime weight_dtype = value_dtype[dtype]
    comptime step = LANES * elements_per_word[weight_dtype]
    var padded = ceildiv(n, PANEL) * PANEL
    var maxima_before = maxima.unsafe_load[width=LANES](0)
    for i in range(ROWS):
        var row = scores.unsafe_offset(i * KEYS)
        for t in range(n, padded):
            row.unsafe_store(t, row.unsafe_load(0))  # leaves the maximum as it is
        var even = row.unsafe_load[width=LANES](0)
        var odd = row.unsafe_load[width=LANES](LANES)
        for t in range(PANEL, padded, PANEL):
            even = simd_max(even, row.unsafe_load[width=LANES](t))
            odd = simd_max(odd, row.unsafe_load[width=LANES](t + LANES))
        var maximum = simd_max(even, odd).reduce_max().cast[DType.float32]() * scales.unsafe_load(i)
        maxima.unsafe_store(i, max(maxima.unsafe_load(i), maximum))
    rescale.unsafe_store(0, exp2(maxima_before - maxima.unsafe_load[width=LANES](0)))
    for i in range(ROWS):
        var row = scores.unsafe_offset(i * KEYS)
        var scale = SIMD[DType.float32, LANES](scales.unsafe_load(i))
        var maximum = maxima.unsafe_load(i)
        var sums = totals.unsafe_load[width=LANES](i * LANES) * rescale.unsafe_load(i)
        for t in range(0, padded, step):
            var words = weights.unsafe_offset(i * weights_stride + t // elements_per_word[weight_dtype])
            var first = powers_of_2[dtype](row.unsafe_offset(t), scale, maximum, n - t)
            sums += first
            comptime if weight_dtype == DType.float32:
                words.unsafe_store(0, bitcast[DType.uint32, LANES](first))
            else:
                var second = powers_of_2[dtype](row.unsafe_offset(t + LANES), scale, maximum, n - t - LANES)
                sums += second
                words.unsafe_store(0, bitcast[DType.uint32, LANES](to_bfloat16(first, second)))
        totals.unsafe_store(i * LANES, sums)


@always_inline
def powers_of_2[
    dtype: DType
](
    scores: Pointer[Scalar[sum_dtype[dtype]], ...], scale: SIMD[DType.float32, LANES], maximum: Float32, n: Int
) -> SIMD[DType.float32, LANES]:
    """Returns 2^(score - maximum) of n scores, then zeros. Only int8 scores have a scale."""
    var x = scores.unsafe_load[width=LANES](0).cast[DType.float32]()
    comptime if dtype == DType.int8:
        x = x.fma(scale, -maximum)
    else:
        x = x - maximum
    var y = exp2[coarse = dtype != DType.float32](x)
    if n >= LANES:
        return y
    return iota[DType.int32, LANES]().lt(Int32(n)).select(y, 0)


@always_inline
def add_values[
    dtype: DType
](
    weights: Pointer[UInt32, ...],
    weights_stride: Int,
    values: Pointer[Scalar[dtype], ...],
    start: Int,
    n_keys: Int,
    padded_keys: Int,
    value_panels: Int,
    rescale: Pointer[Float32, ...],
    weighted: Pointer[mut=True, Float32, ...],
):
    """Rescales `weighted` [value_panels, ROWS, PANEL], and adds the weighted values of n_keys keys from `start`."""
    var zeros = stack_allocation[PANEL, Scalar[sum_dtype[dtype]]]()
    var sums = stack_allocation[ROWS * PANEL, Scalar[sum_dtype[dtype]]]()
    for i in range(PANEL):
        zeros.unsafe_store(i, Scalar[sum_dtype[dtype]](0))
    var n_words = ceildiv(n_keys, PANEL) * PANEL // elements_per_word[dtype]
    for panel in range(value_panels):
        var place = panel * PANEL * padded_keys + start * PANEL
        multiply_tile[dtype](weights, weights_stride, values.unsafe_offset(place), n_words, zeros, sums)
        for i in range(ROWS):
            for c in range(0, PANEL, LANES):
                var at = weighted.unsafe_offset((panel * ROWS + i) * PANEL + c)
                var sum = sums.unsafe_load[width=LANES](i * PANEL + c).cast[DType.float32]()
                at.unsafe_store(0, at.unsafe_load[width=LANES](0).fma(rescale.unsafe_load(i), sum))
