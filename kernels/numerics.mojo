"""Functions of vectors that several kernels use: partial loads, exp2, activations, layer normalization of a row."""

from std.math import exp, rsqrt, tanh
from std.memory import bitcast
from std.sys import CompilationTarget
from std.sys.intrinsics import llvm_intrinsic

comptime LANES = 16
"""The float32 numbers of a vector: one AVX-512 register, two of AVX2, four of NEON."""
comptime LOG2_LANES = 4
comptime ALL_LANES = UInt16(0xFFFF)
"""The mask with which an instruction of AVX-512 writes every lane."""
comptime ROUNDING_AS_SET = Int32(4)
"""The rounding of an instruction of AVX-512: that of the thread."""


@always_inline
def simd_max[dtype: DType](x: SIMD[dtype, LANES], y: SIMD[dtype, LANES]) -> SIMD[dtype, LANES]:
    """Returns the larger of each pair, and y where one is NaN: one instruction; the library's max takes three."""
    return x.gt(y).select(x, y)


@always_inline
def load_partial(x: Pointer[Float32, ...], n: Int) -> SIMD[DType.float32, LANES]:
    """Returns the first n numbers at x, then zeros."""
    if n == LANES:
        return x.unsafe_load[width=LANES](0)
    var vector = SIMD[DType.float32, LANES](0)
    for i in range(n):
        vector[i] = x.unsafe_load(i)
    return vector


@always_inline
def store_partial(x: Pointer[mut=True, Float32, ...], vector: SIMD[DType.float32, LANES], n: Int):
    """Writes the first n numbers of the vector to x."""
    if n == LANES:
        x.unsafe_store(0, vector)
        return
    for i in range(n):
        x.unsafe_store(i, vector[i])


@always_inline
def copy(x: Pointer[Float32, ...], y: Pointer[mut=True, Float32, ...], n: Int):
    """Writes the n numbers at x to y."""
    var whole = n // LANES * LANES
    for i in range(0, whole, LANES):
        y.unsafe_store(i, x.unsafe_load[width=LANES](i))
    for i in range(whole, n):
        y.unsafe_store(i, x.unsafe_load(i))


@always_inline
def exp2[coarse: Bool = False](x: SIMD[DType.float32, LANES]) -> SIMD[DType.float32, LANES]:
    """Returns 2^x for x up to 127, and at most 2^-126 below -126, with a relative error of 2e-7.

    With `coarse`, which is for products of 8-bit numbers, whose error is larger, it is 8e-5. The polynomials
    approximate 2^r for r from -1/2 to 1/2, or from 0 to 1 with AVX-512's own instructions, by least squares at
    Chebyshev nodes.
    """
    comptime if coarse and CompilationTarget._has_feature["avx512dq"]():
        return exp2_avx512(x)
    comptime to_integer = Float32(12582912)  # 1.5 * 2^23: a sum with it has no bits left for a fraction
    var bounded = simd_max[DType.float32](-126, x)
    var shifted = bounded + to_integer
    var r = bounded - (shifted - to_integer)
    var y: SIMD[DType.float32, LANES]
    comptime if coarse:
        y = SIMD[DType.float32, LANES](0.05508868381)
        y = y.fma(r, 0.2426040515)
        y = y.fma(r, 0.6932762417)
        y = y.fma(r, 0.9999289404)
    else:
        y = SIMD[DType.float32, LANES](0.0001537070482)
        y = y.fma(r, 0.001339984829)
        y = y.fma(r, 0.009618373251)
        y = y.fma(r, 0.05550329035)
        y = y.fma(r, 0.2402264846)
        y = y.fma(r, 0.6931472056)
        y = y.fma(r, 1)
    var exponent = bitcast[DType.int32, LANES](shifted) << 23
    return bitcast[DType.float32, LANES](bitcast[DType.int32, LANES](y) + exponent)


@always_inline
def exp2_avx512(x: SIMD[DType.float32, LANES]) -> SIMD[DType.float32, LANES]:
    """Returns exp2[coarse=True](x).

    AVX-512 has an instruction for x - floor(x), and one that multiplies by 2^floor(x).
    """
    comptime to_floor = Int32(1)
    comptime vector = SIMD[DType.float32, LANES]
    var r = llvm_intrinsic["llvm.x86.avx512.mask.reduce.ps.512", vector](x, to_floor, x, ALL_LANES, ROUNDING_AS_SET)
    var y = vector(0.07790716)
    y = y.fma(r, 0.22623319)
    y = y.fma(r, 0.6957771)
    y = y.fma(r, 0.99992783)
    return llvm_intrinsic["llvm.x86.avx512.mask.scalef.ps.512", vector](y, x, x, ALL_LANES, ROUNDING_AS_SET)


@always_inline
def gelu[coarse: Bool = False](x: SIMD[DType.float32, LANES]) -> SIMD[DType.float32, LANES]:
    """Returns x times the normal CDF at x (the exact GELU), with an error of 2.5e-7, or 2e-5 with `coarse`.

    It is computed as max(x, 0) - |x| * CDF(-|x|). The logarithm of that CDF is nearly a parabola: the polynomial
    approximates log2 CDF(-d) for d from 0 to 6, by least squares at Chebyshev nodes, weighted by its effect on the
    result.
    """
    var distance = abs(x).lt(6).select(abs(x), 6)
    var y = SIMD[DType.float32, LANES](3.27119669e-05)
    y = y.fma(distance, -0.000759806542)
    y = y.fma(distance, 0.00802894402)
    y = y.fma(distance, -0.0532975234)
    y = y.fma(distance, -0.458884567)
    y = y.fma(distance, -1.15115476)
    y = y.fma(distance, -0.999998808)
    return simd_max[DType.float32](0, x) - distance * exp2[coarse](y)


@always_inline
def gelu_tanh(x: SIMD[DType.float32, LANES]) -> SIMD[DType.float32, LANES]:
    """Returns the approximation of GELU with tanh (Hendrycks and Gimpel, 2016)."""
    comptime root = 0.7978845608028654  # sqrt(2 / pi)
    return 0.5 * x * (1 + tanh(root * (x + 0.044715 * x * x * x)))


@always_inline
def activate[
    function: StaticString, coarse: Bool = False
](x: SIMD[DType.float32, LANES]) -> SIMD[DType.float32, LANES]:
    """Returns an activation of the spec language of x, or x itself for "none".

    `coarse` is for sums of products of 8-bit numbers, whose error is larger; only the exact GELU makes use of it.
    """
    comptime if function == "gelu":
        return gelu[coarse](x)
    elif function == "gelu_tanh":
        return gelu_tanh(x)
    elif function == "relu":
        return max(x, 0)
    elif function == "silu":
        return x / (1 + exp(-x))
    else:
        comptime assert function == "none", "unknown activation"
        return x


@always_inline
def mean_and_variance(x: Pointer[Float32, ...], n: Int) -> Tuple[Float32, Float32]:
    """Returns the mean of the n numbers at x, and the mean of their squared distances to it."""
    var whole = n // LANES * LANES
    var sums = SIMD[DType.float32, LANES](0)
    for i in range(0, whole, LANES):
        sums += x.unsafe_load[width=LANES](i)
    var total = sums.reduce_add()
    for i in range(whole, n):
        total += x.unsafe_load(i)
    var mean = total / Float32(n)
    var squares = SIMD[DType.float32, LANES](0)
    for i in range(0, whole, LANES):
        var distance = x.unsafe_load[width=LANES](i) - mean
        squares = distance.fma(distance, squares)
    var variance = squares.reduce_add()
    for i in range(whole, n):
        var distance = x.unsafe_load(i) - mean
        variance += distance * distance
    return mean, variance / Float32(n)


@always_inline
def normalize(
    x: Pointer[Float32, ...],
    weight: Pointer[Float32, ...],
    bias: Pointer[Float32, ...],
    eps: Float32,
    y: Pointer[mut=True, Float32, ...],
    n: Int,
):
    """Writes the layer normalization of a row of n numbers to y: (x - mean) / sqrt(variance + eps) * weight + bias."""
    var mean, variance = mean_and_variance(x, n)
    var inverse_deviation = rsqrt(variance + eps)
    var whole = n // LANES * LANES
    for i in range(0, whole, LANES):
        var distance = x.unsafe_load[width=LANES](i) - mean
        var scaled = weight.unsafe_load[width=LANES](i) * inverse_deviation
        y.unsafe_store(i, distance.fma(scaled, bias.unsafe_load[width=LANES](i)))
    for i in range(whole, n):
        y.unsafe_store(i, (x.unsafe_load(i) - mean) * inverse_deviation * weight.unsafe_load(i) + bias.unsafe_load(i))


@always_inline
def normalize_rows(
    x: Pointer[Float32, ...],
    weight: Pointer[Float32, ...],
    bias: Pointer[Float32, ...],
    eps: Float32,
    y: Pointer[mut=True, Float32, ...],
    n_rows: Int,
    n: Int,
):
    """Writes the layer normalization of each row of x [n_rows, n] to y, which has the same shape."""
    for i in range(n_rows):
        normalize(x.unsafe_offset(i * n), weight, bias, eps, y.unsafe_offset(i * n), n)
