"""The attention of a few rows to keys and values in memory, which cached_attention and cross_attention share.

It is bound by reading keys and values, which are read once for four rows. Heads are split among the CPU cores. Keys and
values are float32 or bfloat16, everything else is float32.
"""

from max.algorithm import sync_parallelize
from std.math import exp, rsqrt
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc
from std.sys import size_of
from std.utils.numerics import neg_inf

from .numerics import LANES
from .parallel import BYTES_PER_TASK, task_count

comptime BLOCK = 4
"""Rows that are computed together."""


def attend[
    dtype: DType
](
    q: Pointer[Float32, ...],
    keys: Pointer[Scalar[dtype], ...],
    values: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    batch: Int,
    length: Int,
    heads: Int,
    head_dim: Int,
    n_keys: Int,
    capacity: Int,
    last_visible: Int,
) raises:
    """Writes the attention of q [batch, length, heads * head_dim] to keys and values to y, which has the shape of q.

    Keys and values are [batch, heads, capacity, head_dim], of which the first n_keys are filled. Row i of a window sees
    the keys up to and including last_visible + i.
    """
    var row_stride = heads * head_dim

    def attend_pairs(first: Int, last: Int) {imm}:
        """Computes some pairs of a window and a head."""
        var scores = unsafe_alloc[Float32](BLOCK * n_keys)
        for pair in range(first, last):
            var window = pair // heads
            var head = pair % heads
            var k = keys.unsafe_offset(pair * capacity * head_dim)
            var v = values.unsafe_offset(pair * capacity * head_dim)
            var i = 0
            while i < length:
                var at = (window * length + i) * row_stride + head * head_dim
                var visible = last_visible + i
                if i + BLOCK <= length:
                    attend_rows[dtype, BLOCK](
                        q.unsafe_offset(at),
                        k,
                        v,
                        y.unsafe_offset(at),
                        scores,
                        row_stride,
                        min(n_keys, visible + BLOCK),
                        head_dim,
                        visible,
                    )
                    i += BLOCK
                else:
                    attend_rows[dtype, 1](
                        q.unsafe_offset(at),
                        k,
                        v,
                        y.unsafe_offset(at),
                        scores,
                        row_stride,
                        min(n_keys, visible + 1),
                        head_dim,
                        visible,
                    )
                    i += 1
        scores.unsafe_free()

    var pairs = batch * heads
    var bytes = 2 * pairs * n_keys * head_dim * size_of[Scalar[dtype]]()
    var tasks = task_count(min(pairs, bytes // BYTES_PER_TASK))

    def task(i: Int) raises {imm}:
        attend_pairs(i * pairs // tasks, (i + 1) * pairs // tasks)

    if tasks == 1:
        task(0)
    else:
        sync_parallelize(task, tasks)


@always_inline
def attend_rows[
    dtype: DType, rows: Int
](
    q: Pointer[Float32, ...],
    keys: Pointer[Scalar[dtype], ...],
    values: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    scores: Pointer[mut=True, Float32, ...],
    row_stride: Int,
    n_keys: Int,
    head_dim: Int,
    last_visible: Int,
):
    """Writes softmax(q keys^T / sqrt(head_dim)) values, of one head, to rows of y, row_stride apart like those of q.

    Row i sees the keys up to and including last_visible + i. `scores` has room for rows * n_keys.
    """
    var scale = rsqrt(Float32(head_dim))
    for t in range(n_keys):
        comptime for i in range(rows):
            var score = dot[dtype](q.unsafe_offset(i * row_stride), keys.unsafe_offset(t * head_dim), head_dim) * scale
            scores.unsafe_store(i * n_keys + t, score if t <= last_visible + i else neg_inf[DType.float32]())
    comptime for i in range(rows):
        softmax(scores.unsafe_offset(i * n_keys), n_keys)
    var whole = head_dim // LANES * LANES
    var c = 0
    while c < whole:
        if whole - c >= 4 * LANES:
            sum_values[dtype, rows, 4](
                values.unsafe_offset(c), y.unsafe_offset(c), scores, row_stride, n_keys, head_dim
            )
            c += 4 * LANES
        else:
            sum_values[dtype, rows, 1](
                values.unsafe_offset(c), y.unsafe_offset(c), scores, row_stride, n_keys, head_dim
            )
            c += LANES
    for channel in range(whole, head_dim):
        comptime for i in range(rows):
            var total = Float32(0)
            for t in range(n_keys):
                var value = values.unsafe_load(t * head_dim + channel).cast[DType.float32]()
                total += scores.unsafe_load(i * n_keys + t) * value
            y.unsafe_store(i * row_stride + channel, total)


@always_inline
def dot[dtype: DType](a: Pointer[Float32, ...], b: Pointer[Scalar[dtype], ...], n: Int) -> Float32:
    """Returns the dot product of two vectors of n numbers."""
    var whole = n // LANES * LANES
    var sums = SIMD[DType.float32, LANES](0)
    for i in range(0, whole, LANES):
        sums = a.unsafe_load[width=LANES](i).fma(b.unsafe_load[width=LANES](i).cast[DType.float32](), sums)
    var total = sums.reduce_add()
    for i in range(whole, n):
        total += a.unsafe_load(i) * b.unsafe_load(i).cast[DType.float32]()
    return total


@always_inline
def softmax(scores: Pointer[mut=True, Float32, ...], n: Int):
    """Replaces n scores by their softmax; a score of -inf becomes 0."""
    var whole = n // LANES * LANES
    var maxima = SIMD[DType.float32, LANES](neg_inf[DType.float32]())
    for t in range(0, whole, LANES):
        maxima = max(maxima, scores.unsafe_load[width=LANES](t))
    var maximum = maxima.reduce_max()
    for t in range(whole, n):
        maximum = max(maximum, scores.unsafe_load(t))
    var sums = SIMD[DType.float32, LANES](0)
    for t in range(0, whole, LANES):
        var power = exp(scores.unsafe_load[width=LANES](t) - maximum)
        scores.unsafe_store(t, power)
        sums += power
    var total = sums.reduce_add()
    for t in range(whole, n):
        var power = exp(scores.unsafe_load(t) - maximum)
        scores.unsafe_store(t, power)
        total += power
    for t in range(0, whole, LANES):
        scores.unsafe_store(t, scores.unsafe_load[width=LANES](t) / total)
    for t in range(whole, n):
        scores.unsafe_store(t, scores.unsafe_load(t) / total)


@always_inline
def sum_values[
    dtype: DType, rows: Int, vectors: Int
](
    values: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    weights: Pointer[Float32, ...],
    row_stride: Int,
    n_keys: Int,
    head_dim: Int,
):
    """Writes the sums of the values times the attention weights to some vectors of channels of each row of y."""
    var sums = stack_allocation[rows * vectors, SIMD[DType.float32, LANES]]()
    comptime for i in range(rows * vectors):
        sums[unsafe_offset=i] = 0
    for t in range(n_keys):
        comptime for c in range(vectors):
            var value = values.unsafe_load[width=LANES](t * head_dim + c * LANES).cast[DType.float32]()
            comptime for i in range(rows):
                comptime at = i * vectors + c
                var weight = SIMD[DType.float32, LANES](weights.unsafe_load(i * n_keys + t))
                sums[unsafe_offset=at] = value.fma(weight, sums[unsafe_offset=at])
    comptime for i in range(rows):
        comptime for c in range(vectors):
            y.unsafe_store(i * row_stride + c * LANES, sums[unsafe_offset=i * vectors + c])
