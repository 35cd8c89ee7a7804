"""The product of a few rows with a matrix, as a decode step has it: bound by reading the weights.

The weights are laid out as in the checkpoint, [out, in], in float32, float16, bfloat16 or int8.
float_products.mojo and integer_products.mojo multiply them.

Rows and sums are float32, with one exception: where the CPU has an instruction for it, int8 weights are multiplied with
integers, with a scale for each row, and summed up in int32, which is exact. That takes a third of the instructions. The
integers have 15 bits in rows of up to 1024 numbers, and 13 in rows of 5120, so that no sum can exceed an int32.

The bits of a sum do not depend on the range of columns that is computed with it. Nor do they on the other rows, if the
rows are integers or no more than FEW_ROWS (float_products.mojo). Where a product is added here, `fma` says so: the
compiler would round in between in one place and not in another.
"""

from std.math import ceildiv
from std.memory.alloc import unsafe_alloc
from std.sys import CompilationTarget

from .float_products import multiply_float_rows
from .integer_products import INTEGERS, TILED_ROWS, multiply_integer_rows
from .numerics import LANES, activate, copy, load_partial, normalize_rows, simd_max, store_partial
from .tile import ROWS

comptime MAX_INTEGER = 16383
"""The largest integer of a row."""

comptime integer_rows[dtype: DType]: Bool = dtype == DType.int8 and CompilationTarget._has_feature["avx512vnni"]()
"""Whether rows are integers in products with weights of this dtype."""
comptime row_dtype[dtype: DType]: DType = DType.int16 if integer_rows[dtype] else DType.float32


struct FewRows[dtype: DType](Movable):
    """Rows as products with weights of a dtype take them: [n_rows, n_in], with a scale for each row of integers.

    Behind a row of integers, zeros fill up a vector; of TILED_ROWS and more, whole rows of zeros fill up a tile.
    """

    var numbers: Pointer[Scalar[row_dtype[Self.dtype]], MutUntrackedOrigin]
    var scales: Pointer[Float32, MutUntrackedOrigin]
    var n_rows: Int
    var n_in: Int
    var stride: Int
    """Numbers from a row to the next: no multiple of 4096 bytes, which would share a cache set."""

    def __init__(out self, n_rows: Int, n_in: Int):
        """Takes memory for the rows, which `fill` must write."""
        self.n_rows = n_rows
        self.n_in = n_in
        self.stride = n_in
        var rows = n_rows
        comptime if integer_rows[Self.dtype]:
            self.stride = ceildiv(n_in, INTEGERS) * INTEGERS + INTEGERS
            if n_rows >= TILED_ROWS:
                rows = ceildiv(n_rows, ROWS) * ROWS
        self.numbers = unsafe_alloc[Scalar[row_dtype[Self.dtype]]](rows * self.stride)
        self.scales = unsafe_alloc[Float32](n_rows)
        comptime if integer_rows[Self.dtype]:
            for i in range(rows):
                for k in range(n_in if i < n_rows else 0, self.stride):
                    self.numbers.unsafe_store(i * self.stride + k, Scalar[row_dtype[Self.dtype]](0))

    def __deinit__(deinit self):
        self.numbers.unsafe_free()
        self.scales.unsafe_free()

    def fill(self, x: Pointer[Float32, ...]):
        """Writes the rows x [n_rows, n_in]."""
        for i in range(self.n_rows):
            self.fill_row(i, x.unsafe_offset(i * self.n_in))

    @always_inline
    def fill_row(self, i: Int, x: Pointer[Float32, ...]):
        """Writes row i, as it is or rounded to integers."""
        var row = self.numbers.unsafe_offset(i * self.stride)
        comptime if integer_rows[Self.dtype]:
            self.scales.unsafe_store(i, round_row(x, row.unsafe_bitcast[Int16](), self.n_in))
        else:
            copy(x, row.unsafe_bitcast[Float32](), self.n_in)

    def fill[has_norm: Bool](self, x: Pointer[Float32, ...], norm: Norm):
        """Writes the rows x [n_rows, n_in], or their layer normalization; without it, the norm is not read."""
        comptime if has_norm:
            var normed = unsafe_alloc[Float32](self.n_rows * self.n_in)
            normalize_rows(x, norm.weight, norm.bias, norm.eps, normed, self.n_rows, self.n_in)
            self.fill(normed)
            normed.unsafe_free()
        else:
            self.fill(x)


@always_inline
def round_row(x: Pointer[Float32, ...], y: Pointer[mut=True, Int16, ...], n: Int) -> Float32:
    """Writes a row of n numbers as integers, and returns their scale.

    The largest becomes MAX_INTEGER, or less where n products of that with 127 could exceed an int32.
    """
    var largest = SIMD[DType.float32, LANES](0)
    var zero = SIMD[DType.float32, LANES](0)
    for i in range(0, n, LANES):
        var numbers = load_partial(x.unsafe_offset(i), min(LANES, n - i))
        largest = simd_max(largest, abs(numbers))
        zero = numbers.fma(zero, zero)  # NaN where a number is NaN or infinite, which no integer could say
    var greatest = largest.reduce_max()
    var maximum = Float32(min(MAX_INTEGER, Int(Int32.MAX) // (128 * n)))
    var scale = (greatest / maximum if greatest > 1e-30 else Float32(1)) + zero.reduce_add()
    var inverse = 1 / scale
    var whole = n // LANES * LANES
    for i in range(0, whole, LANES):
        y.unsafe_store(i, round(x.unsafe_load[width=LANES](i) * inverse).cast[DType.int16]())
    for i in range(whole, n):
        y.unsafe_store(i, round(x.unsafe_load(i) * inverse).cast[DType.int16]())
    return scale


def multiply_range[
    dtype: DType
](
    x: FewRows[dtype],
    weights: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_out: Int,
    first: Int,
    last: Int,
):
    """Writes the columns first to last of x [n_rows, n_in] @ weights [n_out, n_in]^T to y [n_rows, n_out]."""
    comptime if integer_rows[dtype]:
        multiply_integer_rows(
            x.numbers.unsafe_bitcast[Int16](),
            x.scales,
            x.n_rows,
            x.n_in,
            x.stride,
            weights.unsafe_bitcast[Int8](),
            y,
            n_out,
            first,
            last,
        )
    else:
        multiply_float_rows[dtype](
            x.numbers.unsafe_bitcast[Float32](), x.n_rows, x.n_in, weights, y, n_out, first, last
        )


struct Matrix[dtype: DType](Copyable, ImplicitlyCopyable, Movable):
    """The weights of a linear layer, [n_out, n_in], with its scales (of int8 weights) and its bias [n_out]."""

    var weights: Pointer[Scalar[Self.dtype], MutUntrackedOrigin]
    var scales: Pointer[Float32, MutUntrackedOrigin]
    var bias: Pointer[Float32, MutUntrackedOrigin]
    var n_out: Int
    var n_in: Int

    def __init__(
        out self,
        weights: Pointer[Scalar[Self.dtype], MutAnyOrigin],
        scales: Pointer[Float32, MutAnyOrigin],
        bias: Pointer[Float32, MutAnyOrigin],
        n_out: Int,
        n_in: Int,
    ):
        """Takes operands of a kernel, which live until it returns."""
        self.weights = weights.unsafe_origin_cast[MutUntrackedOrigin]()
        self.scales = scales.unsafe_origin_cast[MutUntrackedOrigin]()
        self.bias = bias.unsafe_origin_cast[MutUntrackedOrigin]()
        self.n_out = n_out
        self.n_in = n_in


struct Norm(Copyable, ImplicitlyCopyable, Movable):
    """The weight and the bias of a layer normalization, and its eps."""

    var weight: Pointer[Float32, MutUntrackedOrigin]
    var bias: Pointer[Float32, MutUntrackedOrigin]
    var eps: Float32

    def __init__(
        out self, weight: Pointer[Float32, MutAnyOrigin], bias: Pointer[Float32, MutAnyOrigin], eps: Float32
    ):
        """Takes operands of a kernel, which live until it returns."""
        self.weight = weight.unsafe_origin_cast[MutUntrackedOrigin]()
        self.bias = bias.unsafe_origin_cast[MutUntrackedOrigin]()
        self.eps = eps


def linear_range[
    dtype: DType, has_bias: Bool, has_residual: Bool, activation: StaticString
](
    x: FewRows[dtype],
    matrix: Matrix[dtype],
    residual: Pointer[Float32, ...],
    y: Pointer[mut=True, Float32, ...],
    first: Int,
    last: Int,
):
    """Writes the columns first to last of residual + activation(x @ weights^T * scales + bias) to y [n_rows, n_out].

    All but the product is optional; only int8 weights have scales.
    """
    multiply_range[dtype](x, matrix.weights, y, matrix.n_out, first, last)
    comptime if dtype != DType.int8 and not has_bias and not has_residual and activation == "none":
        return
    for i in range(x.n_rows):
        for j in range(first, last, LANES):
            var valid = min(LANES, last - j)
            var place = y.unsafe_offset(i * matrix.n_out + j)
            var shift = SIMD[DType.float32, LANES](0)
            comptime if has_bias:
                shift = load_partial(matrix.bias.unsafe_offset(j), valid)
            var value = load_partial(place, valid)
            comptime if dtype == DType.int8:
                value = value.fma(load_partial(matrix.scales.unsafe_offset(j), valid), shift)
            else:
                value += shift
            value = activate[activation](value)
            comptime if has_residual:
                value += load_partial(residual.unsafe_offset(i * matrix.n_out + j), valid)
            store_partial(place, value, valid)
