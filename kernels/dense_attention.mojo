"""Attention of a whole window over itself, as the encoder has it: bound by arithmetic.

Head by head, keys and values are packed as panels (see tile.mojo) of float32 or bfloat16, which stay in the L2 cache; then
a few rows at a time are multiplied with some of the keys, go through the softmax, and are multiplied with the values, and
nothing of that leaves the L1 cache. Where the next keys give a larger score, what was summed up before is scaled down to
it (Milakov and Gimelshein, 2018). Sums and softmax are float32.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.math import ceildiv, gcd, rsqrt
from std.memory import bitcast, stack_allocation
from std.memory.alloc import unsafe_alloc
from std.sys import num_physical_cores
from std.utils.numerics import neg_inf

from .numerics import copy, exp2, larger, load_some, store_some
from .tile import LANES, PANEL, ROWS, multiply_tile, per_group, sum_dtype, to_bfloat16, to_groups


comptime KEYS = 12 * PANEL
"""Whose scores are computed together."""


def pack_keys[
    dtype: DType
](x: Pointer[Float32, ...], stride: Int, n: Int, width: Int, keys: Pointer[mut=True, Scalar[dtype], ...]):
    """Gives panels of n rows of x, stride apart, as columns: [panels, groups of width, PANEL groups]."""
    comptime size = per_group[dtype]
    var groups = ceildiv(width, size)
    var line = unsafe_alloc[Float32](ceildiv(groups, LANES) * LANES * size)
    var row = unsafe_alloc[UInt32](ceildiv(groups, LANES) * LANES)
    for i in range(ceildiv(groups, LANES) * LANES * size):
        line.unsafe_store(i, Float32(0))
    for t in range(ceildiv(n, PANEL) * PANEL):
        if t < n:
            copy(x.unsafe_offset(t * stride), line, width)
        else:
            for c in range(width):
                line.unsafe_store(c, Float32(0))
        _ = to_groups[dtype](line, width, row)
        for g in range(groups):
            var place = (t // PANEL * groups + g) * PANEL + t % PANEL
            keys.unsafe_store(place * size, bitcast[dtype, size](row.unsafe_load(g)))
    line.unsafe_free()
    row.unsafe_free()


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
    scores: Pointer[Scalar[sum_dtype[dtype]], ...],
    n: Int,
    top: Pointer[mut=True, Float32, ...],
    total: Pointer[mut=True, Float32, ...],
    shares: Pointer[mut=True, UInt32, ...],
) -> Float32:
    """Gives 2 to the power of n scores less the largest so far, in groups. n is a multiple of PANEL.

    The largest is at `top`, and LANES sums of such powers are at `total`. Returns the factor by which sums with the
    largest before have to be multiplied.
    """
    comptime size = per_group[dtype]
    var largest = SIMD[DType.float32, LANES](top.unsafe_load(0))
    var others = largest
    for t in range(0, n, PANEL):
        largest = larger(largest, scores.unsafe_load[width=LANES](t).cast[DType.float32]())
        others = larger(others, scores.unsafe_load[width=LANES](t + LANES).cast[DType.float32]())
    var new_top = larger(largest, others).reduce_max()
    var factor = exp2(SIMD[DType.float32, LANES](top.unsafe_load(0) - new_top))[0]
    var sums = total.unsafe_load[width=LANES](0) * factor
    for t in range(0, n, LANES * size):
        var first = exp2(scores.unsafe_load[width=LANES](t).cast[DType.float32]() - new_top)
        sums += first
        comptime if size == 1:
            shares.unsafe_store(t, bitcast[DType.uint32, LANES](first))
        else:
            var second = exp2(scores.unsafe_load[width=LANES](t + LANES).cast[DType.float32]() - new_top)
            sums += second
            shares.unsafe_store(t // size, bitcast[DType.uint32, LANES](to_bfloat16(first, second)))
    top.unsafe_store(0, new_top)
    total.unsafe_store(0, sums)
    return factor


@extensibility.register("dense_attention")
struct DenseAttention:
    """Takes q, k and v [batch, length, heads * width]; gives y like them, of softmax(q k^T / sqrt(width)) v per head.

    Products are of `dtype`, float32 or bfloat16.
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
        var length = q.dim_size[1]()
        var stride = q.dim_size[2]()
        var width = stride // Int(heads)
        var pairs = q.dim_size[0]() * Int(heads)
        var keys_room = ceildiv(length, PANEL) * PANEL
        var width_groups = ceildiv(width, size)
        var value_panels = ceildiv(width, PANEL)
        var q_stride = ceildiv(width_groups, LANES) * LANES + LANES
        comptime shares_stride = KEYS // size + LANES
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
            var values = unsafe_alloc[Scalar[dtype]](value_panels * PANEL * keys_room)
            var line = unsafe_alloc[Float32](q_stride * size)
            var queries = unsafe_alloc[UInt32](ROWS * q_stride)
            var scores = unsafe_alloc[Scalar[sum_dtype[dtype]]](ROWS * KEYS)
            var shares = unsafe_alloc[UInt32](ROWS * shares_stride)
            var weighted = unsafe_alloc[Float32](value_panels * ROWS * PANEL)
            var tops = stack_allocation[ROWS, Float32]()
            var totals = stack_allocation[ROWS * LANES, Float32]()
            var factors = stack_allocation[ROWS, Float32]()
            var sums = stack_allocation[ROWS * PANEL, Scalar[sum_dtype[dtype]]]()
            pack_keys[dtype](k_at.unsafe_offset(head), stride, length, width, keys)
            pack_values[dtype](v_at.unsafe_offset(head), stride, length, width, values)
            for i in range(q_stride * size):
                line.unsafe_store(i, Float32(0))
            for first in range(first_row, last_row, ROWS):
                for i in range(ROWS):
                    var row = head + min(first + i, last_row - 1) * stride
                    for c in range(0, width, LANES):
                        line.unsafe_store(c, load_some(q_at.unsafe_offset(row + c), min(LANES, width - c)) * scale)
                    _ = to_groups[dtype](line, width, queries.unsafe_offset(i * q_stride))
                for i in range(ROWS):
                    tops.unsafe_store(i, neg_inf[DType.float32]())
                    totals.unsafe_store(i * LANES, SIMD[DType.float32, LANES](0))
                for i in range(0, value_panels * ROWS * PANEL, LANES):
                    weighted.unsafe_store(i, SIMD[DType.float32, LANES](0))
                for start in range(0, keys_room, KEYS):
                    var present = min(KEYS, keys_room - start)
                    for panel in range(present // PANEL):
                        multiply_tile[dtype](
                            queries,
                            q_stride,
                            keys.unsafe_offset((start + panel * PANEL) * width_groups * size),
                            width_groups,
                            scores.unsafe_offset(panel * PANEL),
                            KEYS,
                        )
                    for i in range(ROWS):
                        var row = scores.unsafe_offset(i * KEYS)
                        for t in range(max(0, length - start), present):
                            row.unsafe_store(t, -1e30)
                        var factor = to_shares[dtype](
                            row,
                            present,
                            tops.unsafe_offset(i),
                            totals.unsafe_offset(i * LANES),
                            shares.unsafe_offset(i * shares_stride),
                        )
                        factors.unsafe_store(i, factor)
                    for panel in range(value_panels):
                        var place = panel * PANEL * keys_room + start * PANEL
                        multiply_tile[dtype](
                            shares, shares_stride, values.unsafe_offset(place), present // size, sums
                        )
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
            values.unsafe_free()
            line.unsafe_free()
            queries.unsafe_free()
            scores.unsafe_free()
            shares.unsafe_free()
            weighted.unsafe_free()

        var tasks = num_physical_cores()
        var parts = tasks // gcd(pairs, tasks)  # of a head's rows, so that each task has as many
        var items = pairs * parts

        def share(i: Int) raises {imm}:
            for item in range(i * items // tasks, (i + 1) * items // tasks):
                var part = item % parts
                compute(item // parts, part * length // parts, (part + 1) * length // parts)

        sync_parallelize(share, tasks)
