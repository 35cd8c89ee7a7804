"""The softmax of scores that come in parts, as words of attention weights (tile.mojo).

A weight is 2^(score - the row's largest score so far). Where a later part has a larger score, the weights so far are
scaled down to it (the online softmax of Milakov and Gimelshein, 2018).

In int8, weights are integers from 0 to 255. To round each to the nearest would lose the sum of many small ones: of 1500
keys with a weight of 0.4 each, nothing would be left. So the threshold from which a fraction is rounded up differs
between neighboring keys, and a group of equal weights keeps its sum (an ordered dither).
"""

from std.math import ceildiv, floor, iota
from std.memory import bitcast, stack_allocation
from std.sys.intrinsics import llvm_intrinsic

from .numerics import ALL_LANES, LANES, ROUNDING_AS_SET, exp2, simd_max
from .pack_attention import KEYS, group_size, value_dtype
from .tile import PANEL, ROWS, elements_per_word, multiply_add, sum_dtype, to_bfloat16

comptime LOG2_LARGEST = 7.991521
"""The logarithm to the base 2 of the largest weight in int8, 254.5, which is 255 or 254 after rounding."""
comptime GOLDEN_RATIO = 0.6180339887
"""Its multiples, without their integer parts, are spread evenly in each row of neighbors."""


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

    Zeros fill up a group of keys.

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
    comptime size = elements_per_word[weight_dtype]
    var maxima_before = maxima.unsafe_load[width=LANES](0)
    var padded = ceildiv(n, PANEL) * PANEL
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
    var whole = n // (LANES * size) * (LANES * size)
    for i in range(ROWS):
        var row = scores.unsafe_offset(i * KEYS)
        var scale = SIMD[DType.float32, LANES](scales.unsafe_load(i))
        var shift = -maxima.unsafe_load(i)
        comptime if weight_dtype == DType.int8:
            shift += LOG2_LARGEST
        var place = weights.unsafe_offset(i * weights_stride)
        var sums = totals.unsafe_load[width=LANES](i * LANES) * rescale.unsafe_load(i)
        for t in range(0, whole, LANES * size):
            var word, sum = words_of[dtype, False](row.unsafe_offset(t), scale, shift, 0)
            place.unsafe_store(t // size, word)
            sums += sum
        if n > whole:
            var word, sum = words_of[dtype, True](row.unsafe_offset(whole), scale, shift, n - whole)
            place.unsafe_store(whole // size, word)
            sums += sum
        var group_words = ceildiv(n, group_size[dtype]) * group_size[dtype] // size
        for t in range(ceildiv(n, LANES * size) * LANES, group_words, LANES):
            place.unsafe_store(t, SIMD[DType.uint32, LANES](0))
        totals.unsafe_store(i * LANES, sums)


@always_inline
def words_of[
    dtype: DType, partial: Bool
](
    scores: Pointer[Scalar[sum_dtype[dtype]], ...],
    scale: SIMD[DType.float32, LANES],
    shift: Float32,
    n: Int,
) -> Tuple[SIMD[DType.uint32, LANES], SIMD[DType.float32, LANES]]:
    """Returns the weights 2^(score * scale + shift) of a vector of words, and their sums.

    Only int8 scores have a scale. `partial`: only n keys are there; the other weights are zero.
    """
    comptime weight_dtype = value_dtype[dtype]
    comptime size = elements_per_word[weight_dtype]
    var powers = stack_allocation[size, SIMD[DType.float32, LANES]]()
    comptime for i in range(size):
        var x = scores.unsafe_load[width=LANES](i * LANES).cast[DType.float32]()
        comptime if dtype == DType.int8:
            x = x.fma(scale, shift)
        else:
            x = x + shift
        var y = exp2[coarse = dtype != DType.float32](x)
        comptime if partial:
            y = iota[DType.int32, LANES]().lt(Int32(n - i * LANES)).select(y, 0)
        powers[unsafe_offset=i] = y
    comptime if weight_dtype == DType.float32:
        var y = powers[unsafe_offset=0]
        return bitcast[DType.uint32, LANES](y), y
    elif weight_dtype == DType.bfloat16:
        var first = powers[unsafe_offset=0]
        var second = powers[unsafe_offset=1]
        return bitcast[DType.uint32, LANES](to_bfloat16(first, second)), first + second
    else:
        var integers = stack_allocation[size, SIMD[DType.int32, LANES]]()
        comptime for i in range(size):
            integers[unsafe_offset=i] = truncated(powers[unsafe_offset=i] + thresholds[i * LANES]())
        var word = pack_bytes(
            integers[unsafe_offset=0], integers[unsafe_offset=1], integers[unsafe_offset=2], integers[unsafe_offset=3]
        )
        comptime ones = SIMD[DType.uint32, LANES](0x01010101)
        var sums = multiply_add[DType.int8](word, ones, SIMD[sum_dtype[DType.int8], LANES](0))
        return word, sums.cast[DType.float32]()


@always_inline
def truncated(x: SIMD[DType.float32, LANES]) -> SIMD[DType.int32, LANES]:
    """Returns x without its fractions; the least integer for NaN, and for what is too large. This is for AVX-512."""
    comptime vector = SIMD[DType.int32, LANES]
    return llvm_intrinsic["llvm.x86.avx512.mask.cvttps2dq.512", vector](x, vector(0), ALL_LANES, ROUNDING_AS_SET)


@always_inline
def pack_bytes(
    a: SIMD[DType.int32, LANES], b: SIMD[DType.int32, LANES], c: SIMD[DType.int32, LANES], d: SIMD[DType.int32, LANES]
) -> SIMD[DType.uint32, LANES]:
    """Returns words, each of four neighboring numbers of one vector, limited to 0 to 255.

    The words are of a, b, c and d in turn: the first four numbers of each, then the next four. Scores of more than 1e5
    are rounded to whole units, so that a power may be above 255. From 2^31 on, as for NaN, the least integer comes here
    and becomes 0; the weights of a row that has no other are 0 together, and its attention is NaN. This is for CPUs
    with AVX-512 BW, which all with VNNI have.
    """
    comptime halves = SIMD[DType.int16, 2 * LANES]
    var low = llvm_intrinsic["llvm.x86.avx512.packssdw.512", halves](a, b)
    var high = llvm_intrinsic["llvm.x86.avx512.packssdw.512", halves](c, d)
    var bytes = llvm_intrinsic["llvm.x86.avx512.packuswb.512", SIMD[DType.uint8, 4 * LANES]](low, high)
    return bitcast[DType.uint32, LANES](bytes)


@always_inline
def thresholds[start: Int]() -> SIMD[DType.float32, LANES]:
    """Returns what is added to the weights of LANES keys of a group before their fractions are cut off."""
    var multiples = (iota[DType.float32, LANES]() + Float32(start)) * Float32(GOLDEN_RATIO)
    return (multiples - floor(multiples)) * 0.98 + 0.01
