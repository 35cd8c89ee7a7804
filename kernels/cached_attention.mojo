"""Attention of few rows over keys and values that are in memory: a decoder step's own past, and the encoder's features.

Bound by reading keys and values, once for four rows. Heads are shared out among the CPU cores. Keys and values are float32
or bfloat16, all else is float32.
"""

import extensibility
from extensibility import InputTensor, OutputTensor, _MutableInputTensor

from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.math import exp, rsqrt
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc
from std.sys import size_of
from std.utils.numerics import neg_inf

from .cores import tasks_of

comptime WIDTH = 16
comptime BLOCK = 4
comptime BYTES_OF_A_TASK = 1 << 17
"""Fewer bytes of keys and values are read sooner than another thread wakes."""


@always_inline
def dot[dtype: DType](a: Pointer[Float32, ...], b: Pointer[Scalar[dtype], ...], n: Int) -> Float32:
    """Gives the sum of the products of n numbers."""
    var whole = n // WIDTH * WIDTH
    var sums = SIMD[DType.float32, WIDTH](0)
    for i in range(0, whole, WIDTH):
        sums = a.unsafe_load[width=WIDTH](i).fma(b.unsafe_load[width=WIDTH](i).cast[DType.float32](), sums)
    var total = sums.reduce_add()
    for i in range(whole, n):
        total += a.unsafe_load(i) * b.unsafe_load(i).cast[DType.float32]()
    return total


@always_inline
def attend_rows[
    dtype: DType, rows: Int
](
    q: Pointer[Float32, ...],
    keys: Pointer[Scalar[dtype], ...],
    values: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    scores: Pointer[mut=True, Float32, ...],
    stride: Int,
    n_keys: Int,
    width: Int,
    last_seen: Int,
):
    """Gives rows of y, stride apart like those of q, for one head: softmax(q keys^T / sqrt(width)) values.

    Row i sees the keys up to last_seen + i. scores has room for rows * n_keys.
    """
    var scale = rsqrt(Float32(width))
    for t in range(n_keys):
        comptime for i in range(rows):
            var score = dot[dtype](q.unsafe_offset(i * stride), keys.unsafe_offset(t * width), width) * scale
            scores.unsafe_store(i * n_keys + t, score if t <= last_seen + i else neg_inf[DType.float32]())
    comptime for i in range(rows):
        softmax(scores.unsafe_offset(i * n_keys), n_keys)
    var whole = width // WIDTH * WIDTH
    var c = 0
    while c < whole:
        if whole - c >= 4 * WIDTH:
            weigh[dtype, rows, 4](values.unsafe_offset(c), y.unsafe_offset(c), scores, stride, n_keys, width)
            c += 4 * WIDTH
        else:
            weigh[dtype, rows, 1](values.unsafe_offset(c), y.unsafe_offset(c), scores, stride, n_keys, width)
            c += WIDTH
    for rest in range(whole, width):
        comptime for i in range(rows):
            var total = Float32(0)
            for t in range(n_keys):
                total += scores.unsafe_load(i * n_keys + t) * values.unsafe_load(t * width + rest).cast[DType.float32]()
            y.unsafe_store(i * stride + rest, total)


@always_inline
def weigh[
    dtype: DType, rows: Int, chunks: Int
](
    values: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    scores: Pointer[Float32, ...],
    stride: Int,
    n_keys: Int,
    width: Int,
):
    """Gives some channels of rows of y: the values, weighted by the scores."""
    var sums = stack_allocation[rows * chunks, SIMD[DType.float32, WIDTH]]()
    comptime for i in range(rows * chunks):
        sums[unsafe_offset=i] = 0
    for t in range(n_keys):
        comptime for c in range(chunks):
            var value = values.unsafe_load[width=WIDTH](t * width + c * WIDTH).cast[DType.float32]()
            comptime for i in range(rows):
                comptime at = i * chunks + c
                var weight = SIMD[DType.float32, WIDTH](scores.unsafe_load(i * n_keys + t))
                sums[unsafe_offset=at] = value.fma(weight, sums[unsafe_offset=at])
    comptime for i in range(rows):
        comptime for c in range(chunks):
            y.unsafe_store(i * stride + c * WIDTH, sums[unsafe_offset=i * chunks + c])


@always_inline
def softmax(scores: Pointer[mut=True, Float32, ...], n: Int):
    """In place; a score of -inf becomes 0."""
    var whole = n // WIDTH * WIDTH
    var bests = SIMD[DType.float32, WIDTH](neg_inf[DType.float32]())
    for t in range(0, whole, WIDTH):
        bests = max(bests, scores.unsafe_load[width=WIDTH](t))
    var best = bests.reduce_max()
    for t in range(whole, n):
        best = max(best, scores.unsafe_load(t))
    var sums = SIMD[DType.float32, WIDTH](0)
    for t in range(0, whole, WIDTH):
        var share = exp(scores.unsafe_load[width=WIDTH](t) - best)
        scores.unsafe_store(t, share)
        sums += share
    var total = sums.reduce_add()
    for t in range(whole, n):
        var share = exp(scores.unsafe_load(t) - best)
        scores.unsafe_store(t, share)
        total += share
    for t in range(0, whole, WIDTH):
        scores.unsafe_store(t, scores.unsafe_load[width=WIDTH](t) / total)
    for t in range(whole, n):
        scores.unsafe_store(t, scores.unsafe_load(t) / total)


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
    width: Int,
    n_keys: Int,
    room: Int,
    last_seen: Int,
) raises:
    """Gives y [batch, length, heads * width] of q like it, and keys and values [batch, heads, room, width].

    The first n_keys of these are there; row i sees those up to last_seen + i.
    """
    var stride = heads * width

    def task(first: Int, last: Int) {imm}:
        """Does pairs of a window and a head."""
        var scores = unsafe_alloc[Float32](BLOCK * n_keys)
        for pair in range(first, last):
            var b = pair // heads
            var head = pair % heads
            var k = keys.unsafe_offset(pair * room * width)
            var v = values.unsafe_offset(pair * room * width)
            var i = 0
            while i < length:
                var at = (b * length + i) * stride + head * width
                var seen = last_seen + i
                if i + BLOCK <= length:
                    var present = min(n_keys, seen + BLOCK)
                    attend_rows[dtype, BLOCK](
                        q.unsafe_offset(at), k, v, y.unsafe_offset(at), scores, stride, present, width, seen
                    )
                    i += BLOCK
                else:
                    var present = min(n_keys, seen + 1)
                    attend_rows[dtype, 1](q.unsafe_offset(at), k, v, y.unsafe_offset(at), scores, stride, present, width, seen)
                    i += 1
        scores.unsafe_free()

    var pairs = batch * heads
    var bytes = 2 * pairs * n_keys * width * size_of[Scalar[dtype]]()
    var tasks = tasks_of(min(pairs, bytes // BYTES_OF_A_TASK))

    def share(i: Int) raises {imm}:
        task(i * pairs // tasks, (i + 1) * pairs // tasks)

    if tasks == 1:
        share(0)
    else:
        sync_parallelize(share, tasks)


@extensibility.register("attention_over_memory")
struct AttentionOverMemory:
    """Takes q [batch, length, heads * width], keys and values [batch, heads, n_keys, width]; gives y like q."""

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        keys: InputTensor[dtype=dtype, rank=4, ...],
        values: InputTensor[dtype=dtype, rank=4, ...],
        ctx: DeviceContext,
    ) raises:
        var n_keys = keys.dim_size[2]()
        attend[dtype](
            q.unsafe_ptr(),
            keys.unsafe_ptr(),
            values.unsafe_ptr(),
            y.unsafe_ptr(),
            q.dim_size[0](),
            q.dim_size[1](),
            keys.dim_size[1](),
            keys.dim_size[3](),
            n_keys,
            n_keys,
            n_keys,
        )


@extensibility.register("attention_over_cache")
struct AttentionOverCache:
    """Takes q, k and v [batch, length, heads * width] of the tokens at `position` and after; gives y like them.

    Puts k and v into the caches [batch, heads, room, width], of which each token sees those up to its own.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        k: InputTensor[dtype=DType.float32, rank=3, ...],
        v: InputTensor[dtype=DType.float32, rank=3, ...],
        keys: _MutableInputTensor[dtype=DType.float32, rank=4, ...],
        values: _MutableInputTensor[dtype=DType.float32, rank=4, ...],
        position: Int64,
        ctx: DeviceContext,
    ) raises:
        var batch = q.dim_size[0]()
        var length = q.dim_size[1]()
        var heads = keys.dim_size[1]()
        var room = keys.dim_size[2]()
        var width = keys.dim_size[3]()
        var first = Int(position)
        for b in range(batch):
            for i in range(length):
                for head in range(heads):
                    var source = (b * length + i) * heads * width + head * width
                    var place = ((b * heads + head) * room + first + i) * width
                    for c in range(width):
                        keys.unsafe_ptr().unsafe_store(place + c, k.unsafe_ptr().unsafe_load(source + c))
                        values.unsafe_ptr().unsafe_store(place + c, v.unsafe_ptr().unsafe_load(source + c))
        attend[DType.float32](
            q.unsafe_ptr(),
            keys.unsafe_ptr(),
            values.unsafe_ptr(),
            y.unsafe_ptr(),
            batch,
            length,
            heads,
            width,
            first + length,
            room,
            first,
        )


@extensibility.register("attention_scores")
struct AttentionScores:
    """Takes q [batch, length, all heads * width], keys [batch, all heads, n_keys, width] and the numbers of some heads.

    Gives their scores [batch, heads, length, n_keys] before the softmax, q keys^T / sqrt(width).
    """

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        scores: OutputTensor[dtype=DType.float32, rank=4, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        keys: InputTensor[dtype=dtype, rank=4, ...],
        heads: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var length = q.dim_size[1]()
        var all_heads = keys.dim_size[1]()
        var n_keys = keys.dim_size[2]()
        var width = keys.dim_size[3]()
        var n_heads = heads.dim_size[0]()
        var scale = rsqrt(Float32(width))
        for b in range(q.dim_size[0]()):
            for n in range(n_heads):
                var head = Int(heads.unsafe_ptr().unsafe_load(n))
                var k = keys.unsafe_ptr().unsafe_offset((b * all_heads + head) * n_keys * width)
                for i in range(length):
                    var row = q.unsafe_ptr().unsafe_offset(((b * length + i) * all_heads + head) * width)
                    var y = scores.unsafe_ptr().unsafe_offset(((b * n_heads + n) * length + i) * n_keys)
                    for t in range(n_keys):
                        y.unsafe_store(t, dot[dtype](row, k.unsafe_offset(t * width), width) * scale)
