"""The attention of a few rows to keys and values in memory, which cached_attention and cross_attention share.

It is bound by reading keys and values, which are read once for a few rows. Keys and values are float32, bfloat16 or
int8 with a scale for each of their rows; everything else is float32, but for the queries of int8 keys, which
few_rows.mojo rounds to integers of 15 bits.

The bits of a row do not depend on the rows that are computed with it: it may be one token of a decode step, or one of
many in a prompt.
"""

from std.math import ceildiv, exp, iota, rsqrt
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc
from std.sys import size_of
from std.utils.numerics import neg_inf

from .few_rows import FewRows, integer_rows, multiply_range
from .numerics import LANES, load_partial
from .parallel import BYTES_PER_THREAD, for_each, thread_count
from .prefetch import CACHE_LINE, prefetch_ahead
from .tile import ROWS

comptime BLOCK = 4
"""Rows that are computed together."""


struct Memory[dtype: DType](Copyable, ImplicitlyCopyable, Movable):
    """Keys and values [batch, heads, capacity, head_dim]; in int8 with the scale of each row."""

    var keys: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var values: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var keys_scales: Pointer[Float32, MutUntrackedOrigin]
    var values_scales: Pointer[Float32, MutUntrackedOrigin]
    var heads: Int
    var capacity: Int
    var head_dim: Int

    def __init__(
        out self,
        keys: Pointer[Scalar[Self.dtype], MutAnyOrigin],
        values: Pointer[Scalar[Self.dtype], MutAnyOrigin],
        keys_scales: Pointer[Float32, MutAnyOrigin],
        values_scales: Pointer[Float32, MutAnyOrigin],
        heads: Int,
        capacity: Int,
        head_dim: Int,
    ):
        """Takes operands of a kernel, which live until it returns."""
        self.keys = keys.unsafe_origin_cast[MutUntrackedOrigin]()
        self.values = values.unsafe_origin_cast[MutUntrackedOrigin]()
        self.keys_scales = keys_scales.unsafe_origin_cast[MutUntrackedOrigin]()
        self.values_scales = values_scales.unsafe_origin_cast[MutUntrackedOrigin]()
        self.heads = heads
        self.capacity = capacity
        self.head_dim = head_dim


def attend[
    dtype: DType
](
    q: Pointer[Float32, ...],
    memory: Memory[dtype],
    y: Pointer[mut=True, Float32, ...],
    batch: Int,
    length: Int,
    n_keys: Int,
    last_visible: Int,
) raises:
    """Writes the attention of q [batch, length, heads * head_dim] to n_keys keys to y, which has the shape of q.

    Row i of a window sees the keys up to and including last_visible + i.
    """
    var bytes = 2 * batch * memory.heads * n_keys * memory.head_dim * size_of[Scalar[dtype]]()

    def pair(i: Int) {imm}:
        attend_memory[dtype](q, memory, y, i // memory.heads, i % memory.heads, length, n_keys, last_visible)

    for_each(batch * memory.heads, thread_count(bytes // BYTES_PER_THREAD), pair)


def attend_memory[
    dtype: DType
](
    q: Pointer[Float32, ...],
    memory: Memory[dtype],
    y: Pointer[mut=True, Float32, ...],
    window: Int,
    head: Int,
    length: Int,
    n_keys: Int,
    last_visible: Int,
):
    """Writes what `attend` writes, of one head of one window."""
    var head_dim = memory.head_dim
    var row_stride = memory.heads * head_dim
    var place = (window * memory.heads + head) * memory.capacity
    var scores = unsafe_alloc[Float32](max(ROWS, BLOCK) * padded(n_keys))

    @always_inline
    def rows[count: Int, together: Int](i: Int) {imm}:
        """Computes `count` rows, whose values are summed up for some rows together."""
        var at = (window * length + i) * row_stride + head * head_dim
        var seen = min(n_keys, last_visible + i + count)
        write_scores[dtype, count](
            q.unsafe_offset(at), row_stride, memory, place, seen, last_visible + i, scores, padded(seen)
        )
        comptime for row in range(count):
            softmax(scores.unsafe_offset(row * padded(seen)), padded(seen))
            comptime if dtype == DType.int8:
                scale_weights(scores.unsafe_offset(row * padded(seen)), rebind[Memory[DType.int8]](memory), place, seen)
        comptime for row in range(0, count, together):
            sum_values[dtype, together](
                memory,
                place,
                scores.unsafe_offset(row * padded(seen)),
                padded(seen),
                seen,
                y.unsafe_offset(at + row * row_stride),
                row_stride,
            )

    var i = 0
    comptime if integer_rows[dtype]:
        while i + ROWS <= length:
            rows[ROWS, BLOCK](i)
            i += ROWS
    while i + BLOCK <= length:
        rows[BLOCK, BLOCK](i)
        i += BLOCK
    comptime for left in range(1, BLOCK):
        if length - i == left:
            rows[left, left](i)
    scores.unsafe_free()


@always_inline
def padded(n: Int) -> Int:
    """Returns n, rounded up to whole vectors."""
    return ceildiv(n, LANES) * LANES


@always_inline
def write_scores[
    dtype: DType, rows: Int
](
    q: Pointer[Float32, ...],
    row_stride: Int,
    memory: Memory[dtype],
    place: Int,
    n_keys: Int,
    last_visible: Int,
    scores: Pointer[mut=True, Float32, ...],
    scores_stride: Int,
):
    """Writes q keys^T / sqrt(head_dim) of n_keys keys from the row `place` of the memory, then -inf, for rows of q.

    Row i sees the keys up to and including last_visible + i.
    """
    var head_dim = memory.head_dim
    var queries = FewRows[dtype](rows, head_dim)
    comptime for i in range(rows):
        queries.fill_row(i, q.unsafe_offset(i * row_stride))
    multiply_range[dtype](
        queries, memory.keys.unsafe_offset(place * head_dim), scores, scores_stride, 0, n_keys
    )
    var scale = rsqrt(Float32(head_dim))
    comptime for i in range(rows):
        for t in range(0, n_keys, LANES):
            var at = scores.unsafe_offset(i * scores_stride + t)
            var score = at.unsafe_load[width=LANES](0) * scale
            comptime if dtype == DType.int8:
                score *= load_partial(memory.keys_scales.unsafe_offset(place + t), min(LANES, n_keys - t))
            var key = iota[DType.int32, LANES]() + Int32(t)
            var visible = key.le(Int32(last_visible + i)) & key.lt(Int32(n_keys))
            at.unsafe_store(0, visible.select(score, neg_inf[DType.float32]()))


@always_inline
def softmax(scores: Pointer[mut=True, Float32, ...], n: Int):
    """Replaces n scores, whole vectors, by their softmax; a score of -inf becomes 0."""
    var maxima = SIMD[DType.float32, LANES](neg_inf[DType.float32]())
    for t in range(0, n, LANES):
        maxima = max(maxima, scores.unsafe_load[width=LANES](t))
    var maximum = maxima.reduce_max()
    var sums = SIMD[DType.float32, LANES](0)
    for t in range(0, n, LANES):
        var power = exp(scores.unsafe_load[width=LANES](t) - maximum)
        scores.unsafe_store(t, power)
        sums += power
    var total = sums.reduce_add()
    for t in range(0, n, LANES):
        scores.unsafe_store(t, scores.unsafe_load[width=LANES](t) / total)


@always_inline
def scale_weights(weights: Pointer[mut=True, Float32, ...], memory: Memory[DType.int8], place: Int, n_keys: Int):
    """Multiplies each of n_keys weights with the scale of its value, from the row `place` of the memory."""
    for t in range(0, n_keys, LANES):
        var scales = load_partial(memory.values_scales.unsafe_offset(place + t), min(LANES, n_keys - t))
        weights.unsafe_store(t, weights.unsafe_load[width=LANES](t) * scales)


@always_inline
def sum_values[
    dtype: DType, rows: Int
](
    memory: Memory[dtype],
    place: Int,
    weights: Pointer[Float32, ...],
    weights_stride: Int,
    n_keys: Int,
    y: Pointer[mut=True, Float32, ...],
    row_stride: Int,
):
    """Writes the sums of n_keys values, from the row `place` of the memory, times their weights to rows of y."""
    var head_dim = memory.head_dim
    var whole = head_dim // LANES * LANES
    var c = 0
    while c < whole:
        if whole - c >= 4 * LANES:
            sum_channels[dtype, rows, LANES, 4](memory, place, weights, weights_stride, n_keys, y, row_stride, c)
            c += 4 * LANES
        else:
            sum_channels[dtype, rows, LANES, 1](memory, place, weights, weights_stride, n_keys, y, row_stride, c)
            c += LANES
    for channel in range(whole, head_dim):
        sum_channels[dtype, rows, 1, 1](memory, place, weights, weights_stride, n_keys, y, row_stride, channel)


@always_inline
def sum_channels[
    dtype: DType, rows: Int, width: Int, vectors: Int
](
    memory: Memory[dtype],
    place: Int,
    weights: Pointer[Float32, ...],
    weights_stride: Int,
    n_keys: Int,
    y: Pointer[mut=True, Float32, ...],
    row_stride: Int,
    channel: Int,
):
    """Writes what `sum_values` writes to some vectors of channels, from `channel` on."""
    var sums = stack_allocation[rows * vectors, SIMD[DType.float32, width]]()
    comptime for i in range(rows * vectors):
        sums[unsafe_offset=i] = 0
    for t in range(n_keys):
        var row = memory.values.unsafe_offset((place + t) * memory.head_dim + channel)
        comptime for c in range(vectors):
            comptime if c * width * size_of[Scalar[dtype]]() % CACHE_LINE == 0:
                prefetch_ahead(row.unsafe_offset(c * width))
            var value = row.unsafe_load[width=width](c * width).cast[DType.float32]()
            comptime for i in range(rows):
                comptime at = i * vectors + c
                var weight = SIMD[DType.float32, width](weights.unsafe_load(i * weights_stride + t))
                sums[unsafe_offset=at] = value.fma(weight, sums[unsafe_offset=at])
    comptime for i in range(rows):
        comptime for c in range(vectors):
            y.unsafe_store(i * row_stride + channel + c * width, sums[unsafe_offset=i * vectors + c])
