"""The inner product of all large matrix products: a tile of rows times 32 columns, in registers.

A number takes a share of a 32-bit group: float32 all of it, bfloat16 half, int8 a quarter, as the CPU's dot products
want their operands. Rows come as groups, columns in panels of 32, packed as [groups of the row][32 columns]: sums are
float32, of int8 they are int32. With AVX-512 a tile has 12 rows, and its 24 sums stay in registers; with 16 registers of
256 bits, or 32 of 128, it has 3.
"""

from std.memory import bitcast, stack_allocation
from std.sys import CompilationTarget
from std.sys.intrinsics import llvm_intrinsic

from .numerics import larger

comptime LANES = 16
comptime PANEL = 2 * LANES
comptime ROWS = 12 if CompilationTarget._has_feature["avx512f"]() else 3


comptime sum_dtype[dtype: DType]: DType = DType.int32 if dtype == DType.int8 else DType.float32
comptime per_group[dtype: DType]: Int = 1 if dtype == DType.float32 else (2 if dtype == DType.bfloat16 else 4)


@always_inline
def to_bfloat16(
    low: SIMD[DType.float32, LANES], high: SIMD[DType.float32, LANES]
) -> SIMD[DType.bfloat16, 2 * LANES]:
    """Gives the numbers of both, low ones first, rounded to the nearest."""
    comptime if CompilationTarget._has_feature["avx512bf16"]():
        return llvm_intrinsic["llvm.x86.avx512bf16.cvtne2ps2bf16.512", SIMD[DType.bfloat16, 2 * LANES]](high, low)
    else:
        return low.join(high).cast[DType.bfloat16]()


@always_inline
def largest_of(row: Pointer[Float32, ...], n: Int) -> Float32:
    """Gives the largest distance from 0 of n numbers, with zeros to a whole vector."""
    var largest = SIMD[DType.float32, LANES](0)
    for i in range(0, n, LANES):
        largest = larger(largest, abs(row.unsafe_load[width=LANES](i)))
    return largest.reduce_max()


@always_inline
def scale_of(largest: Float32) -> Float32:
    """Gives what 8-bit numbers are multiplied with, so that the largest is 127 times that; 1 for what is as good as 0."""
    return largest / 127 if largest > 1e-30 else Float32(1)


@always_inline
def quantise[
    zero: Int32
](row: Pointer[Float32, ...], n: Int, scale: Float32, groups: Pointer[mut=True, UInt32, ...]) -> Int32:
    """Gives round(number / scale) + zero of n numbers as int8 groups, with room for and zeros to a whole vector of these.

    Returns the sum of the rounded.
    """
    comptime numbers = 4 * LANES
    var inverse = 1 / scale
    var sums = SIMD[DType.int32, numbers](0)
    for i in range(0, n, numbers):
        var some = round(row.unsafe_load[width=numbers](i) * inverse).cast[DType.int32]()
        sums += some
        groups.unsafe_store(i // 4, bitcast[DType.uint32, LANES]((some + zero).cast[DType.uint8]()))
    return sums.reduce_add()


@always_inline
def to_groups[
    dtype: DType
](row: Pointer[mut=True, Float32, ...], n: Int, groups: Pointer[mut=True, UInt32, ...]) -> Float32:
    """Gives n numbers, with room for and zeros to a whole vector of groups, as groups; returns their scale.

    int8 groups are round(number / scale) + 128, the scale being that with which the largest becomes 127.
    """
    comptime size = per_group[dtype]
    comptime numbers = LANES * size
    comptime if dtype == DType.float32:
        for i in range(0, n, LANES):
            groups.unsafe_store(i, bitcast[DType.uint32, LANES](row.unsafe_load[width=LANES](i)))
        return 1
    elif dtype == DType.bfloat16:
        for i in range(0, n, numbers):
            var some = to_bfloat16(row.unsafe_load[width=LANES](i), row.unsafe_load[width=LANES](i + LANES))
            groups.unsafe_store(i // size, bitcast[DType.uint32, LANES](some))
        return 1
    else:
        var scale = scale_of(largest_of(row, n))
        _ = quantise[128](row, n, scale, groups)
        return scale


@always_inline
def multiply_add[
    dtype: DType
](
    a: UInt32, w: SIMD[DType.uint32, LANES], sums: SIMD[sum_dtype[dtype], LANES]
) -> SIMD[sum_dtype[dtype], LANES]:
    """Adds to each sum the products of one group of a row with that of a column.

    Of int8, the row's numbers are unsigned.
    """
    var row = SIMD[DType.uint32, LANES](a)
    comptime if dtype == DType.float32:
        var x = bitcast[DType.float32, LANES](row)
        var y = bitcast[DType.float32, LANES](w)
        return rebind[SIMD[sum_dtype[dtype], LANES]](x.fma(y, rebind[SIMD[DType.float32, LANES]](sums)))
    elif dtype == DType.bfloat16:
        comptime if CompilationTarget._has_feature["avx512bf16"]():
            return llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", SIMD[sum_dtype[dtype], LANES]](
                sums, bitcast[DType.bfloat16, 2 * LANES](row), bitcast[DType.bfloat16, 2 * LANES](w)
            )
        else:
            var total = rebind[SIMD[DType.float32, LANES]](sums)
            total = bitcast[DType.float32, LANES](row << 16).fma(bitcast[DType.float32, LANES](w << 16), total)
            comptime high = UInt32(0xFFFF0000)
            total = bitcast[DType.float32, LANES](row & high).fma(bitcast[DType.float32, LANES](w & high), total)
            return rebind[SIMD[sum_dtype[dtype], LANES]](total)
    else:
        comptime if CompilationTarget._has_feature["avx512vnni"]():
            return llvm_intrinsic["llvm.x86.avx512.vpdpbusd.512", SIMD[sum_dtype[dtype], LANES]](
                sums, bitcast[DType.uint8, 4 * LANES](row), bitcast[DType.int8, 4 * LANES](w)
            )
        else:
            var total = rebind[SIMD[DType.int32, LANES]](sums)
            comptime for i in range(4):
                var x = bitcast[DType.int32, LANES]((row >> UInt32(8 * i)) & 255)
                var y = bitcast[DType.int32, LANES](w << UInt32(24 - 8 * i)) >> 24
                total += x * y
            return rebind[SIMD[sum_dtype[dtype], LANES]](total)


@always_inline
def multiply_tile[
    dtype: DType
](
    rows: Pointer[UInt32, ...],
    stride: Int,
    panel: Pointer[Scalar[dtype], ...],
    groups: Int,
    begin: Pointer[Scalar[sum_dtype[dtype]], ...],
    sums: Pointer[mut=True, Scalar[sum_dtype[dtype]], ...],
    sums_stride: Int = PANEL,
):
    """Gives sums [ROWS, PANEL], whose rows are sums_stride apart.

    They are of ROWS rows of groups, stride apart, times a panel [groups, PANEL numbers of a group]. Each row's begin with
    the PANEL numbers at `begin`.
    """
    comptime half = LANES * per_group[dtype]
    var total = stack_allocation[2 * ROWS, SIMD[sum_dtype[dtype], LANES]]()
    comptime for i in range(2 * ROWS):
        total[unsafe_offset=i] = begin.unsafe_load[width=LANES](i % 2 * LANES)
    for k in range(groups):
        var left = bitcast[DType.uint32, LANES](panel.unsafe_load[width=half](2 * k * half))
        var right = bitcast[DType.uint32, LANES](panel.unsafe_load[width=half]((2 * k + 1) * half))
        comptime for i in range(ROWS):
            var group = rows.unsafe_load(i * stride + k)
            total[unsafe_offset=2 * i] = multiply_add[dtype](group, left, total[unsafe_offset=2 * i])
            total[unsafe_offset=2 * i + 1] = multiply_add[dtype](group, right, total[unsafe_offset=2 * i + 1])
    comptime for i in range(ROWS):
        sums.unsafe_store(i * sums_stride, total[unsafe_offset=2 * i])
        sums.unsafe_store(i * sums_stride + LANES, total[unsafe_offset=2 * i + 1])
