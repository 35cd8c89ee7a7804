"""Packs the queries, keys and values of one head as words and panels (tile.mojo).

In int8, queries and keys have 8 bits, with a scale for each query and one for all keys of a head. The mean of the keys
is subtracted from each of them. That changes all scores of a query by the same amount, and so no attention weight, but
leaves smaller numbers to round (SageAttention, Zhang et al., 2024). Values have 8 bits as well, where the CPU has an
instruction for such products, with a scale for each channel; elsewhere they are bfloat16.
"""

from std.math import ceildiv, rsqrt
from std.memory import bitcast, stack_allocation
from std.memory.alloc import unsafe_alloc
from std.sys import CompilationTarget

from .numerics import LANES, copy, load_partial, simd_max, store_partial
from .tile import (
    MAX_INT8,
    PANEL,
    ROWS,
    ZERO_POINT,
    elements_per_word,
    int8_scale,
    max_abs,
    pack_row,
    quantize,
    sum_dtype,
)

comptime KEYS = 12 * PANEL
"""Keys whose scores are computed together."""
comptime LOG2_E = 1.4426950408889634
comptime has_int8_products: Bool = CompilationTarget._has_feature["avx512vnni"]()
comptime value_dtype[dtype: DType]: DType = DType.bfloat16 if dtype == DType.int8 and not has_int8_products else dtype
"""The dtype of attention weights and values, by that of queries and keys."""
comptime group_size[dtype: DType]: Int = max(PANEL, LANES * elements_per_word[value_dtype[dtype]])
"""Keys are filled up to whole groups: to panels, and to vectors of words of attention weights."""


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
        var zero = Float32(0)
        for t in range(n_keys):
            subtract(k.unsafe_offset(t * row_stride), mean, line, head_dim)
            var found = max_abs(line, head_dim)
            largest = max(largest, found)
            zero = found.fma(zero, zero)  # NaN stays in a sum, and may be lost in a maximum
        scale = int8_scale(largest + zero)
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


def pack_values[
    dtype: DType
](
    v: Pointer[Float32, ...],
    row_stride: Int,
    n_keys: Int,
    head_dim: Int,
    values: Pointer[mut=True, Scalar[dtype], ...],
    scales: Pointer[mut=True, Float32, ...],
):
    """Writes the values as panels of channels: [panels, words of keys, PANEL channels, elements of a word].

    The keys of a word are neighbors. In int8, words of four vectors of keys alternate, as `pack_bytes` writes the
    weights (online_softmax.mojo). Writes the scale of each channel, which is 1 but for int8; `scales` has room for
    whole panels.
    """
    comptime size = elements_per_word[dtype]
    comptime group = LANES * size
    var n_words = ceildiv(n_keys, max(PANEL, group)) * max(PANEL, group) // size
    for c in range(0, ceildiv(head_dim, PANEL) * PANEL, LANES):
        var valid = max(0, min(LANES, head_dim - c))
        var scale = SIMD[DType.float32, LANES](1)
        comptime if dtype == DType.int8:
            scale = scales_of_columns(v.unsafe_offset(c), row_stride, n_keys, valid)
        scales.unsafe_store(c, scale)
        var panel = values.unsafe_offset((c // PANEL * n_words * PANEL + c % PANEL) * size)
        for w in range(n_words):
            var word = SIMD[DType.uint32, LANES](0)
            var rows = stack_allocation[size, SIMD[DType.float32, LANES]]()
            comptime for i in range(size):
                var key = w * size + i
                comptime if dtype == DType.int8:
                    key = w // LANES * group + w % size * LANES + w % LANES // size * size + i
                var there = valid if key < n_keys else 0
                rows[unsafe_offset=i] = load_partial(v.unsafe_offset(min(key, n_keys - 1) * row_stride + c), there)
                comptime if dtype == DType.int8:
                    var rounded = round(rows[unsafe_offset=i] / scale).cast[DType.int32]()
                    word |= (bitcast[DType.uint32, LANES](rounded) & 255) << UInt32(8 * i)
            var place = panel.unsafe_offset(w * PANEL * size)
            comptime if dtype == DType.int8:
                place.unsafe_store(0, bitcast[dtype, LANES * size](word))
            elif size == 1:
                place.unsafe_store(0, rows[unsafe_offset=0].cast[dtype]())
            else:
                place.unsafe_store(0, rows[unsafe_offset=0].interleave(rows[unsafe_offset=1]).cast[dtype]())


@always_inline
def scales_of_columns(v: Pointer[Float32, ...], row_stride: Int, n_rows: Int, n: Int) -> SIMD[DType.float32, LANES]:
    """Returns the scales with which the largest absolute values of n neighboring columns are quantized to 127.

    The scale of a column that has NaN or infinity is NaN.
    """
    var largest = SIMD[DType.float32, LANES](0)
    var zero = SIMD[DType.float32, LANES](0)
    for t in range(n_rows):
        var numbers = load_partial(v.unsafe_offset(t * row_stride), n)
        largest = simd_max(largest, abs(numbers))
        zero = numbers.fma(zero, zero)
    return largest.gt(1e-30).select(largest / MAX_INT8, 1) + zero


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
