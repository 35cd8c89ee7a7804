"""The inner product of all large matrix products: a tile of ROWS rows times PANEL columns, in registers.

The CPU's dot-product instructions want their operands in 32-bit words: one float32, two bfloat16 or int16, or four int8
numbers, neighbors in a row. A row is packed as words; columns are packed in panels of 32, [words of a column][32
columns], so that a vector holds the same word of 16 columns. tensors/pack.py packs the weights of a model, at build
time.

Sums are float32; those of integers are int32. With AVX-512 a tile has 12 rows, and its 24 vectors of sums stay in
registers; with 16 registers of 256 bits, or 32 of 128, it has 3 rows.
"""

from std.memory import bitcast, stack_allocation
from std.sys import CompilationTarget, size_of
from std.sys.intrinsics import llvm_intrinsic

from .numerics import LANES, simd_max

comptime PANEL = 2 * LANES
"""Columns of a panel; `PANEL` of tensors/pack.py."""
comptime ROWS = 12 if CompilationTarget._has_feature["avx512f"]() else 3
"""Rows of a tile."""
comptime ZERO_POINT = 128
"""The unsigned 8-bit value of an activation of 0; `ZERO_POINT` of tensors/quantize.py."""
comptime MAX_INT8 = 127

comptime sum_dtype[dtype: DType]: DType = DType.int32 if dtype.is_integral() else DType.float32
comptime elements_per_word[dtype: DType]: Int = 4 // size_of[Scalar[dtype]]()


@always_inline
def to_bfloat16(
    low: SIMD[DType.float32, LANES], high: SIMD[DType.float32, LANES]
) -> SIMD[DType.bfloat16, 2 * LANES]:
    """Returns the numbers of both vectors, `low` first, rounded to the nearest bfloat16."""
    comptime if CompilationTarget._has_feature["avx512bf16"]():
        return llvm_intrinsic["llvm.x86.avx512bf16.cvtne2ps2bf16.512", SIMD[DType.bfloat16, 2 * LANES]](high, low)
    else:
        return low.join(high).cast[DType.bfloat16]()


@always_inline
def max_abs(row: Pointer[Float32, ...], n: Int) -> Float32:
    """Returns the largest absolute value of a row of n numbers, which zeros fill up to a whole vector.

    It is NaN where a number is NaN or infinite, which no integer could say.
    """
    var largest = SIMD[DType.float32, LANES](0)
    var zero = SIMD[DType.float32, LANES](0)
    for i in range(0, n, LANES):
        var numbers = row.unsafe_load[width=LANES](i)
        largest = simd_max(largest, abs(numbers))
        zero = numbers.fma(zero, zero)
    return largest.reduce_max() + zero.reduce_add()


@always_inline
def int8_scale(largest: Float32) -> Float32:
    """Returns the scale with which `largest` is quantized to 127; 1 where that is too small to divide by."""
    return Float32(1) if largest <= 1e-30 else largest / MAX_INT8


@always_inline
def quantize[
    zero_point: Int32
](row: Pointer[Float32, ...], n: Int, scale: Float32, words: Pointer[mut=True, UInt32, ...]) -> Int32:
    """Writes round(x / scale) + zero_point of a row of n numbers as words, and returns the sum of round(x / scale).

    Zeros must fill up the row, and `words` must have room, to a whole vector of words.
    """
    comptime step = 4 * LANES
    var inverse = 1 / scale
    var sums = SIMD[DType.int32, step](0)
    for i in range(0, n, step):
        var rounded = round(row.unsafe_load[width=step](i) * inverse).cast[DType.int32]()
        sums += rounded
        words.unsafe_store(i // 4, bitcast[DType.uint32, LANES]((rounded + zero_point).cast[DType.uint8]()))
    return sums.reduce_add()


@always_inline
def pack_row[
    dtype: DType
](row: Pointer[mut=True, Float32, ...], n: Int, words: Pointer[mut=True, UInt32, ...]) -> Float32:
    """Writes a row of n numbers as words of a dtype, and returns its scale, which is 1 but for int8.

    int8 elements are round(x / scale) + ZERO_POINT, and the largest absolute value becomes 127. Zeros must fill up the
    row, and `words` must have room, to a whole vector of words.
    """
    comptime size = elements_per_word[dtype]
    comptime step = LANES * size
    comptime if dtype == DType.float32:
        for i in range(0, n, LANES):
            words.unsafe_store(i, bitcast[DType.uint32, LANES](row.unsafe_load[width=LANES](i)))
        return 1
    elif dtype == DType.bfloat16:
        for i in range(0, n, step):
            var rounded = to_bfloat16(row.unsafe_load[width=LANES](i), row.unsafe_load[width=LANES](i + LANES))
            words.unsafe_store(i // size, bitcast[DType.uint32, LANES](rounded))
        return 1
    else:
        var scale = int8_scale(max_abs(row, n))
        _ = quantize[ZERO_POINT](row, n, scale, words)
        return scale


@always_inline
def multiply_add[
    dtype: DType
](
    row: SIMD[DType.uint32, LANES], columns: SIMD[DType.uint32, LANES], sums: SIMD[sum_dtype[dtype], LANES]
) -> SIMD[sum_dtype[dtype], LANES]:
    """Returns the sums plus the products of the elements of 16 words of rows with those of 16 words of columns.

    int8 elements of rows are unsigned, those of columns are signed. int16 is for CPUs with AVX-512 VNNI.
    """
    comptime if dtype == DType.float32:
        var x = bitcast[DType.float32, LANES](row)
        var y = bitcast[DType.float32, LANES](columns)
        return rebind[SIMD[sum_dtype[dtype], LANES]](x.fma(y, rebind[SIMD[DType.float32, LANES]](sums)))
    elif dtype == DType.bfloat16:
        comptime if CompilationTarget._has_feature["avx512bf16"]():
            return llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", SIMD[sum_dtype[dtype], LANES]](
                sums, bitcast[DType.bfloat16, 2 * LANES](row), bitcast[DType.bfloat16, 2 * LANES](columns)
            )
        else:
            var total = rebind[SIMD[DType.float32, LANES]](sums)
            total = bitcast[DType.float32, LANES](row << 16).fma(bitcast[DType.float32, LANES](columns << 16), total)
            comptime high = UInt32(0xFFFF0000)
            total = bitcast[DType.float32, LANES](row & high).fma(
                bitcast[DType.float32, LANES](columns & high), total
            )
            return rebind[SIMD[sum_dtype[dtype], LANES]](total)
    elif dtype == DType.int16:
        return llvm_intrinsic["llvm.x86.avx512.vpdpwssd.512", SIMD[sum_dtype[dtype], LANES]](
            sums, bitcast[DType.int16, 2 * LANES](row), bitcast[DType.int16, 2 * LANES](columns)
        )
    else:
        comptime if CompilationTarget._has_feature["avx512vnni"]():
            return llvm_intrinsic["llvm.x86.avx512.vpdpbusd.512", SIMD[sum_dtype[dtype], LANES]](
                sums, bitcast[DType.uint8, 4 * LANES](row), bitcast[DType.int8, 4 * LANES](columns)
            )
        else:
            var total = rebind[SIMD[DType.int32, LANES]](sums)
            comptime for i in range(4):
                var x = bitcast[DType.int32, LANES]((row >> UInt32(8 * i)) & 255)
                var y = bitcast[DType.int32, LANES](columns << UInt32(24 - 8 * i)) >> 24
                total += x * y
            return rebind[SIMD[sum_dtype[dtype], LANES]](total)


@always_inline
def multiply_tile[
    dtype: DType
](
    rows: Pointer[UInt32, ...],
    row_stride: Int,
    panel: Pointer[Scalar[dtype], ...],
    n_words: Int,
    initial: Pointer[Scalar[sum_dtype[dtype]], ...],
    sums: Pointer[mut=True, Scalar[sum_dtype[dtype]], ...],
    sums_stride: Int = PANEL,
):
    """Writes the products of ROWS rows and a panel to sums [ROWS, PANEL], whose rows are sums_stride apart.

    Rows are n_words words, row_stride words apart. A panel is [n_words, PANEL columns, elements of a word]. The sums of
    each row begin with `initial` [PANEL].
    """
    comptime half = LANES * elements_per_word[dtype]
    var total = stack_allocation[2 * ROWS, SIMD[sum_dtype[dtype], LANES]]()
    comptime for i in range(2 * ROWS):
        total[unsafe_offset=i] = initial.unsafe_load[width=LANES](i % 2 * LANES)
    for k in range(n_words):
        var left = bitcast[DType.uint32, LANES](panel.unsafe_load[width=half](2 * k * half))
        var right = bitcast[DType.uint32, LANES](panel.unsafe_load[width=half]((2 * k + 1) * half))
        comptime for i in range(ROWS):
            var word = SIMD[DType.uint32, LANES](rows.unsafe_load(i * row_stride + k))
            total[unsafe_offset=2 * i] = multiply_add[dtype](word, left, total[unsafe_offset=2 * i])
            total[unsafe_offset=2 * i + 1] = multiply_add[dtype](word, right, total[unsafe_offset=2 * i + 1])
    comptime for i in range(ROWS):
        sums.unsafe_store(i * sums_stride, total[unsafe_offset=2 * i])
        sums.unsafe_store(i * sums_stride + LANES, total[unsafe_offset=2 * i + 1])
