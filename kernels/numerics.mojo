"""Functions of vectors that kernels need everywhere: exp, GELU, layer normalisation of a row."""

from std.math import exp, rsqrt, tanh
from std.memory import bitcast

comptime WIDTH = 16


@always_inline
def larger[dtype: DType](x: SIMD[dtype, WIDTH], y: SIMD[dtype, WIDTH]) -> SIMD[dtype, WIDTH]:
    """Gives the larger of two numbers, and y if one is NaN: one instruction, of which the library's max takes three."""
    return x.gt(y).select(x, y)


@always_inline
def exp2[coarse: Bool = False](x: SIMD[DType.float32, WIDTH]) -> SIMD[DType.float32, WIDTH]:
    """Gives 2 to the power of x to 2e-7 of it, for x up to 127; below -126 it is 2 to the power of -126.

    Coarse ones are to 8e-5, for what becomes bfloat16. The polynomials are those of 2^r for r from -1/2 to 1/2, by least
    squares at Chebyshev nodes.
    """
    comptime to_integer = Float32(12582912)  # 1.5 * 2^23: a sum with it has no room for fractions
    var bounded = larger[DType.float32](-126, x)
    var shifted = bounded + to_integer
    var r = bounded - (shifted - to_integer)
    var y: SIMD[DType.float32, WIDTH]
    comptime if coarse:
        y = SIMD[DType.float32, WIDTH](0.05508868381)
        y = y.fma(r, 0.2426040515)
        y = y.fma(r, 0.6932762417)
        y = y.fma(r, 0.9999289404)
    else:
        y = SIMD[DType.float32, WIDTH](0.0001537070482)
        y = y.fma(r, 0.001339984829)
        y = y.fma(r, 0.009618373251)
        y = y.fma(r, 0.05550329035)
        y = y.fma(r, 0.2402264846)
        y = y.fma(r, 0.6931472056)
        y = y.fma(r, 1)
    var exponent = bitcast[DType.int32, WIDTH](shifted) << 23
    return bitcast[DType.float32, WIDTH](bitcast[DType.int32, WIDTH](y) + exponent)


@always_inline
def gelu(x: SIMD[DType.float32, WIDTH]) -> SIMD[DType.float32, WIDTH]:
    """Gives x times the share of a normal distribution that is below x: the exact form, to 2.5e-7.

    That is max(x, 0) less |x| times the share beyond |x|, whose logarithm is nearly a parabola. The polynomial is that of
    its logarithm to base 2 from 0 to 6, by least squares at Chebyshev nodes, weighted by what it changes.
    """
    var distance = abs(x).lt(6).select(abs(x), 6)
    var y = SIMD[DType.float32, WIDTH](3.27119669e-05)
    y = y.fma(distance, -0.000759806542)
    y = y.fma(distance, 0.00802894402)
    y = y.fma(distance, -0.0532975234)
    y = y.fma(distance, -0.458884567)
    y = y.fma(distance, -1.15115476)
    y = y.fma(distance, -0.999998808)
    return larger[DType.float32](0, x) - distance * exp2(y)


@always_inline
def moments(x: Pointer[Float32, ...], n: Int) -> Tuple[Float32, Float32]:
    """Gives mean and variance of n numbers, the latter from the distances to the mean."""
    var whole = n // WIDTH * WIDTH
    var sums = SIMD[DType.float32, WIDTH](0)
    for i in range(0, whole, WIDTH):
        sums += x.unsafe_load[width=WIDTH](i)
    var total = sums.reduce_add()
    for i in range(whole, n):
        total += x.unsafe_load(i)
    var mean = total / Float32(n)
    var squares = SIMD[DType.float32, WIDTH](0)
    for i in range(0, whole, WIDTH):
        var distance = x.unsafe_load[width=WIDTH](i) - mean
        squares = distance.fma(distance, squares)
    var variance = squares.reduce_add()
    for i in range(whole, n):
        var distance = x.unsafe_load(i) - mean
        variance += distance * distance
    return mean, variance / Float32(n)


@always_inline
def normalise(
    x: Pointer[Float32, ...],
    weight: Pointer[Float32, ...],
    bias: Pointer[Float32, ...],
    eps: Float32,
    y: Pointer[mut=True, Float32, ...],
    n: Int,
):
    """Gives y of n numbers, (x - mean) / sqrt(variance + eps) * weight + bias."""
    var mean, variance = moments(x, n)
    var inverse_deviation = rsqrt(variance + eps)
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        var distance = x.unsafe_load[width=WIDTH](i) - mean
        var scaled = weight.unsafe_load[width=WIDTH](i) * inverse_deviation
        y.unsafe_store(i, distance.fma(scaled, bias.unsafe_load[width=WIDTH](i)))
    for i in range(whole, n):
        y.unsafe_store(i, (x.unsafe_load(i) - mean) * inverse_deviation * weight.unsafe_load(i) + bias.unsafe_load(i))


@always_inline
def copy(x: Pointer[Float32, ...], y: Pointer[mut=True, Float32, ...], n: Int):
    """Gives y of n numbers, those of x."""
    var whole = n // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        y.unsafe_store(i, x.unsafe_load[width=WIDTH](i))
    for i in range(whole, n):
        y.unsafe_store(i, x.unsafe_load(i))


@always_inline
def gelu_tanh(x: SIMD[DType.float32, WIDTH]) -> SIMD[DType.float32, WIDTH]:
    """Gives GELU by its approximation with tanh (Hendrycks and Gimpel, 2016)."""
    comptime root = 0.7978845608028654  # sqrt(2 / pi)
    return 0.5 * x * (1 + tanh(root * (x + 0.044715 * x * x * x)))


@always_inline
def load_some(x: Pointer[Float32, ...], n: Int) -> SIMD[DType.float32, WIDTH]:
    """Gives the first n numbers, and zeros."""
    if n == WIDTH:
        return x.unsafe_load[width=WIDTH](0)
    var some = SIMD[DType.float32, WIDTH](0)
    for i in range(n):
        some[i] = x.unsafe_load(i)
    return some


@always_inline
def store_some(x: Pointer[mut=True, Float32, ...], some: SIMD[DType.float32, WIDTH], n: Int):
    """Stores the first n numbers."""
    if n == WIDTH:
        x.unsafe_store(0, some)
        return
    for i in range(n):
        x.unsafe_store(i, some[i])


@always_inline
def activate[function: StaticString](x: SIMD[DType.float32, WIDTH]) -> SIMD[DType.float32, WIDTH]:
    """Gives one of the activations of the spec language, or x itself for "none"."""
    comptime if function == "gelu":
        return gelu(x)
    elif function == "gelu_tanh":
        return gelu_tanh(x)
    elif function == "relu":
        return max(x, 0)
    elif function == "silu":
        return x / (1 + exp(-x))
    else:
        comptime assert function == "none", "unknown activation"
        return x
