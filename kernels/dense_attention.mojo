"""Attention of a whole window over itself, as the encoder has it: bound by arithmetic.

Head by head, keys and values are packed as panels (see tile.mojo), which stay in the L2 cache; then a few rows at a time
are multiplied with some of the keys, go through the softmax, and are multiplied with the values, and nothing of that
leaves the L1 cache. Where the next keys give a larger score, what was summed up before is scaled down to it (Milakov and
Gimelshein, 2018). Sums and softmax are float32.

Of int8, queries and keys have 8 bits, with a scale for each query and one for all keys of a head; shares and values are
bfloat16. The mean of the keys is taken off them, which adds the same to all scores of a query and so changes no share,
and leaves less to round (SageAttention, Zhang and others, 2024).
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.math import ceildiv, gcd, iota, rsqrt
from std.memory import bitcast, stack_allocation
from std.memory.alloc import unsafe_alloc
from std.utils.numerics import neg_inf

from .cores import tasks_of
from .numerics import copy, exp2, larger, load_some, store_some
from .tile import (
    LANES,
    PANEL,
    ROWS,
    largest_of,
    multiply_tile,
    per_group,
    quantise,
    scale_of,
    sum_dtype,
    to_bfloat16,
    to_groups,
)


comptime KEYS = 12 * PANEL
"""Whose scores are computed together."""

comptime share_dtype[dtype: DType]: DType = DType.float32 if dtype == DType.float32 else DType.bfloat16


@always_inline
def subtract(x: Pointer[Float32, ...], y: Pointer[Float32, ...], difference: Pointer[mut=True, Float32, ...], n: Int):
    """Gives the difference of n numbers each, x - y."""
    for c in range(0, n, LANES):
        var present = min(LANES, n - c)
        var some = load_some(x.unsafe_offset(c), present) - load_some(y.unsafe_offset(c), present)
        store_some(difference.unsafe_offset(c), some, present)


def mean_of(x: Pointer[Float32, ...], stride: Int, n: Int, width: Int, mean: Pointer[mut=True, Float32, ...]):
    """Gives the mean of n rows of x, stride apart."""
    for c in range(0, width, LANES):
        var present = min(LANES, width - c)
        var sums = SIMD[DType.float32, LANES](0)
        for t in range(n):
            sums += load_some(x.unsafe_offset(t * stride + c), present)
        store_some(mean.unsafe_offset(c), sums / Float32(n), present)


def pack_keys[
    dtype: DType
](
    x: Pointer[Float32, ...],
    stride: Int,
    n: Int,
    width: Int,
    keys: Pointer[mut=True, Scalar[dtype], ...],
    begin: Pointer[mut=True, Scalar[sum_dtype[dtype]], ...],
) -> Float32:
    """Gives panels of n rows of x, stride apart, as columns: [panels, groups of width, PANEL groups]; returns their scale.

    `begin`, [keys], is what the product of a query with a key begins with: of int8, less 128 times the sum of the
    key's numbers, because a query's zero is 128.
    """
    comptime size = per_group[dtype]
    var groups = ceildiv(width, size)
    var room = ceildiv(groups, LANES) * LANES
    var line = unsafe_alloc[Float32](room * size)
    var mean = unsafe_alloc[Float32](room * size)
    var row = unsafe_alloc[UInt32](room)
    for i in range(room * size):
        line.unsafe_store(i, Float32(0))
        mean.unsafe_store(i, Float32(0))
    var scale = Float32(1)
    comptime if dtype == DType.int8:
        mean_of(x, stride, n, width, mean)
        var top = Float32(0)
        for t in range(n):
            subtract(x.unsafe_offset(t * stride), mean, line, width)
            top = max(top, largest_of(line, width))
        scale = scale_of(top)
    for t in range(ceildiv(n, PANEL) * PANEL):
        if t >= n:
            for c in range(width):
                line.unsafe_store(c, Float32(0))
        elif dtype == DType.int8:
            subtract(x.unsafe_offset(t * stride), mean, line, width)
        else:
            copy(x.unsafe_offset(t * stride), line, width)
        comptime if dtype == DType.int8:
            var total = quantise[0](line, width, scale, row)
            begin.unsafe_store(t, Scalar[sum_dtype[dtype]](-128 * total))
        else:
            begin.unsafe_store(t, Scalar[sum_dtype[dtype]](0))
            _ = to_groups[dtype](line, width, row)
        for g in range(groups):
            var place = (t // PANEL * groups + g) * PANEL + t % PANEL
            keys.unsafe_store(place * size, bitcast[dtype, size](row.unsafe_load(g)))
    line.unsafe_free()
    mean.unsafe_free()
    row.unsafe_free()
    return scale


def pack_values[
    dtype: DType
](x: Pointer[Float32, ...], stride: Int, n: Int, width: Int, values: Pointer[mut=True, Scalar[dtype], ...]):
    """Gives panels of the columns of n rows of x, stride apart: [panels of width, groups of rows, PANEL groups]."""
    comptime size = per_group[dtype]
    var groups = ceildiv(n, PANEL) * PANEL // size
    for g in range(groups):
        for c in range(0, ceildiv(width, PANEL) * PANEL, LANES):
            var some = stack_allocation[size, SIMD[DType.float32, LANES]]()
            comptime for i in range(size):
                var present = max(0, min(LANES, width - c)) if g * size + i < n else 0
                some[unsafe_offset=i] = load_some(x.unsafe_offset((g * size + i) * stride + c), present)
            var place = ((c // PANEL * groups + g) * PANEL + c % PANEL) * size
            comptime if size == 1:
                values.unsafe_store(place, some[unsafe_offset=0].cast[dtype]())
            else:
                values.unsafe_store(place, some[unsafe_offset=0].interleave(some[unsafe_offset=1]).cast[dtype]())


@always_inline
def to_shares[
    dtype: DType
](
    scores: Pointer[mut=True, Scalar[sum_dtype[dtype]], ...],
    n: Int,
    scales: Pointer[Float32, ...],
    tops: Pointer[mut=True, Float32, ...],
    totals: Pointer[mut=True, Float32, ...],
    shares: Pointer[mut=True, UInt32, ...],
    shares_stride: Int,
    factors: Pointer[mut=True, Float32, ...],
):
    """Gives 2 to the power of n scores of each row, less the row's largest so far, in groups; zeros fill up a panel.

    Scores are what is at `scores`, rows of KEYS, times the row's of `scales`. The largest are at `tops`, and LANES sums
    of such powers of each row at `totals`. `factors` gets what sums with the largest before are to be multiplied with.
    `tops` and `factors` have room for LANES rows.
    """
    comptime shared = share_dtype[dtype]
    comptime step = LANES * per_group[shared]
    var room = ceildiv(n, PANEL) * PANEL
    var before = tops.unsafe_load[width=LANES](0)
    for i in range(ROWS):
        var row = scores.unsafe_offset(i * KEYS)
        for t in range(n, room):
            row.unsafe_store(t, row.unsafe_load(0))  # which does not change what is the largest
        var largest = row.unsafe_load[width=LANES](0)
        var others = row.unsafe_load[width=LANES](LANES)
        for t in range(PANEL, room, PANEL):
            largest = larger(largest, row.unsafe_load[width=LANES](t))
            others = larger(others, row.unsafe_load[width=LANES](t + LANES))
        var top = larger(largest, others).reduce_max().cast[DType.float32]() * scales.unsafe_load(i)
        tops.unsafe_store(i, max(tops.unsafe_load(i), top))
    factors.unsafe_store(0, exp2(before - tops.unsafe_load[width=LANES](0)))
    for i in range(ROWS):
        var row = scores.unsafe_offset(i * KEYS)
        var scale = SIMD[DType.float32, LANES](scales.unsafe_load(i))
        var top = tops.unsafe_load(i)
        var sums = totals.unsafe_load[width=LANES](i * LANES) * factors.unsafe_load(i)
        for t in range(0, room, step):
            var groups = shares.unsafe_offset(i * shares_stride + t // per_group[shared])
            var first = power[dtype](row.unsafe_offset(t), scale, top, n - t)
            sums += first
            comptime if shared == DType.float32:
                groups.unsafe_store(0, bitcast[DType.uint32, LANES](first))
            else:
                var second = power[dtype](row.unsafe_offset(t + LANES), scale, top, n - t - LANES)
                sums += second
                groups.unsafe_store(0, bitcast[DType.uint32, LANES](to_bfloat16(first, second)))
        totals.unsafe_store(i * LANES, sums)


@always_inline
def power[
    dtype: DType
](
    scores: Pointer[Scalar[sum_dtype[dtype]], ...], scale: SIMD[DType.float32, LANES], top: Float32, n: Int
) -> SIMD[DType.float32, LANES]:
    """Gives 2 to the power of some scores, less top, and zeros where there are fewer than LANES."""
    var x = scores.unsafe_load[width=LANES](0).cast[DType.float32]()
    comptime if dtype == DType.int8:
        x = x.fma(scale, -top)
    else:
        x = x - top
    var y = exp2[coarse = dtype != DType.float32](x)
    if n >= LANES:
        return y
    return iota[DType.int32, LANES]().lt(Int32(n)).select(y, 0)


@extensibility.register("dense_attention")
struct DenseAttention:
    """Takes q, k and v [batch, length, heads * width]; gives y like them, of softmax(q k^T / sqrt(width)) v per head.

    Products are of `dtype`: float32, bfloat16, or int8 for those with keys.
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
        comptime size = per_group[dtype]
        comptime shared = share_dtype[dtype]
        var length = q.dim_size[1]()
        var stride = q.dim_size[2]()
        var width = stride // Int(heads)
        var pairs = q.dim_size[0]() * Int(heads)
        var keys_room = ceildiv(length, PANEL) * PANEL
        var width_groups = ceildiv(width, size)
        var value_panels = ceildiv(width, PANEL)
        var q_stride = ceildiv(width_groups, LANES) * LANES + LANES
        comptime shares_stride = KEYS // per_group[shared] + LANES
        var q_at = q.unsafe_ptr()
        var k_at = k.unsafe_ptr()
        var v_at = v.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        comptime log2_e = 1.4426950408889634
        var scale = Float32(log2_e) * rsqrt(Float32(width))

        def compute(pair: Int, first_row: Int, last_row: Int) raises {imm}:
            """Does rows of one head of one window."""
            var head = pair // Int(heads) * length * stride + pair % Int(heads) * width
            var keys = unsafe_alloc[Scalar[dtype]](keys_room * width_groups * size)
            var begin = unsafe_alloc[Scalar[sum_dtype[dtype]]](keys_room)
            var values = unsafe_alloc[Scalar[shared]](value_panels * PANEL * keys_room)
            var line = unsafe_alloc[Float32](q_stride * size)
            var queries = unsafe_alloc[UInt32](ROWS * q_stride)
            var scores = unsafe_alloc[Scalar[sum_dtype[dtype]]](ROWS * KEYS)
            var shares = unsafe_alloc[UInt32](ROWS * shares_stride)
            var weighted = unsafe_alloc[Float32](value_panels * ROWS * PANEL)
            var scales = stack_allocation[LANES, Float32]()
            var tops = stack_allocation[LANES, Float32]()
            var totals = stack_allocation[ROWS * LANES, Float32]()
            var factors = stack_allocation[LANES, Float32]()
            var sums = stack_allocation[ROWS * PANEL, Scalar[sum_dtype[shared]]]()
            var zeros = stack_allocation[PANEL, Scalar[sum_dtype[shared]]]()
            for i in range(PANEL):
                zeros.unsafe_store(i, Scalar[sum_dtype[shared]](0))
            var keys_scale = pack_keys[dtype](k_at.unsafe_offset(head), stride, length, width, keys, begin)
            pack_values[shared](v_at.unsafe_offset(head), stride, length, width, values)
            for i in range(q_stride * size):
                line.unsafe_store(i, Float32(0))
            for first in range(first_row, last_row, ROWS):
                for i in range(ROWS):
                    var row = head + min(first + i, last_row - 1) * stride
                    for c in range(0, width, LANES):
                        line.unsafe_store(c, load_some(q_at.unsafe_offset(row + c), min(LANES, width - c)) * scale)
                    var row_scale = to_groups[dtype](line, width, queries.unsafe_offset(i * q_stride))
                    scales.unsafe_store(i, row_scale * keys_scale)
                tops.unsafe_store(0, SIMD[DType.float32, LANES](neg_inf[DType.float32]()))
                for i in range(ROWS):
                    totals.unsafe_store(i * LANES, SIMD[DType.float32, LANES](0))
                for i in range(0, value_panels * ROWS * PANEL, LANES):
                    weighted.unsafe_store(i, SIMD[DType.float32, LANES](0))
                for start in range(0, length, KEYS):
                    var present = min(KEYS, length - start)
                    for panel in range(ceildiv(present, PANEL)):
                        var at = start + panel * PANEL
                        multiply_tile[dtype](
                            queries,
                            q_stride,
                            keys.unsafe_offset(at * width_groups * size),
                            width_groups,
                            begin.unsafe_offset(at),
                            scores.unsafe_offset(panel * PANEL),
                            KEYS,
                        )
                    to_shares[dtype](scores, present, scales, tops, totals, shares, shares_stride, factors)
                    for panel in range(value_panels):
                        var place = panel * PANEL * keys_room + start * PANEL
                        var groups = ceildiv(present, PANEL) * PANEL // per_group[shared]
                        multiply_tile[shared](shares, shares_stride, values.unsafe_offset(place), groups, zeros, sums)
                        for i in range(ROWS):
                            for c in range(0, PANEL, LANES):
                                var at = weighted.unsafe_offset((panel * ROWS + i) * PANEL + c)
                                var some = sums.unsafe_load[width=LANES](i * PANEL + c).cast[DType.float32]()
                                at.unsafe_store(0, at.unsafe_load[width=LANES](0).fma(factors.unsafe_load(i), some))
                for i in range(min(ROWS, last_row - first)):
                    var total = totals.unsafe_load[width=LANES](i * LANES).reduce_add()
                    for c in range(0, width, LANES):
                        var at = (c // PANEL * ROWS + i) * PANEL + c % PANEL
                        store_some(
                            y_at.unsafe_offset(head + (first + i) * stride + c),
                            weighted.unsafe_load[width=LANES](at) / total,
                            min(LANES, width - c),
                        )
            keys.unsafe_free()
            begin.unsafe_free()
            values.unsafe_free()
            line.unsafe_free()
            queries.unsafe_free()
            scores.unsafe_free()
            shares.unsafe_free()
            weighted.unsafe_free()

        var tasks = tasks_of(pairs * length)
        var parts = tasks // gcd(pairs, tasks)  # of a head's rows, so that each task has as many
        var items = pairs * parts

        def share(i: Int) raises {imm}:
            for item in range(i * items // tasks, (i + 1) * items // tasks):
                var part = item % parts
                compute(item // parts, part * length // parts, (part + 1) * length // parts)

        sync_parallelize(share, tasks)
