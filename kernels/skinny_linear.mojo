"""A linear layer for few rows of activations, as a decoder step has them: bound by reading the weights.

Weights stay as the checkpoint has them, [out, in], float32 or bfloat16; activations and sums are float32. Four rows of
weights are read side by side, each once per four rows of activations, and each CPU core takes a share of them. Nothing
in it depends on a CPU's features: 16 lanes are one AVX-512 register, two of AVX2, four of NEON.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.memory import stack_allocation
from std.sys import num_physical_cores, size_of

comptime WIDTH = 16
comptime ROWS = 4
"""Rows of activations, and of weights, that are worked on at once."""
comptime BYTES_OF_A_TASK = 1 << 19
"""Fewer bytes of weights are read sooner than another thread wakes."""


@always_inline
def multiply[
    weights_dtype: DType, has_bias: Bool, rows: Int, columns: Int
](
    x: Pointer[Float32, ...],
    weights: Pointer[Scalar[weights_dtype], ...],
    bias: Pointer[Scalar[weights_dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_in: Int,
    n_out: Int,
):
    """Gives y[rows, columns], whose rows are n_out apart, of x[rows, n_in] and weights[columns, n_in]."""
    var sums = stack_allocation[rows * columns, SIMD[DType.float32, WIDTH]]()
    comptime for i in range(rows * columns):
        sums[unsafe_offset=i] = 0
    var whole = n_in // WIDTH * WIDTH
    for k in range(0, whole, WIDTH):
        comptime for j in range(columns):
            var w = weights.unsafe_load[width=WIDTH](j * n_in + k).cast[DType.float32]()
            comptime for i in range(rows):
                comptime at = i * columns + j
                sums[unsafe_offset=at] = x.unsafe_load[width=WIDTH](i * n_in + k).fma(w, sums[unsafe_offset=at])
    comptime for j in range(columns):
        var start = Float32(0)
        comptime if has_bias:
            start = bias.unsafe_load(j).cast[DType.float32]()
        comptime for i in range(rows):
            var total = start + sums[unsafe_offset=i * columns + j].reduce_add()
            for k in range(whole, n_in):
                total += x.unsafe_load(i * n_in + k) * weights.unsafe_load(j * n_in + k).cast[DType.float32]()
            y.unsafe_store(i * n_out + j, total)


def multiply_range[
    weights_dtype: DType, has_bias: Bool
](
    x: Pointer[Float32, ...],
    weights: Pointer[Scalar[weights_dtype], ...],
    bias: Pointer[Scalar[weights_dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_rows: Int,
    n_in: Int,
    n_out: Int,
    first: Int,
    last: Int,
):
    """Gives columns first to last of y[n_rows, n_out]."""

    @always_inline
    def block[rows: Int, columns: Int](i: Int, j: Int) {imm}:
        multiply[weights_dtype, has_bias, rows, columns](
            x.unsafe_offset(i * n_in),
            weights.unsafe_offset(j * n_in),
            bias.unsafe_offset(j),
            y.unsafe_offset(i * n_out + j),
            n_in,
            n_out,
        )

    var whole = first + (last - first) // ROWS * ROWS
    var whole_rows = n_rows // ROWS * ROWS
    for j in range(first, whole, ROWS):
        for i in range(0, whole_rows, ROWS):
            block[ROWS, ROWS](i, j)
        for i in range(whole_rows, n_rows):
            block[1, ROWS](i, j)
    for j in range(whole, last):
        for i in range(n_rows):
            block[1, 1](i, j)


@extensibility.register("skinny_linear")
struct SkinnyLinear:
    """Takes x [batch, length, in], weights [out, in] and bias [out], which is not read without `has_bias`.

    Gives [batch, length, out].
    """

    @staticmethod
    def execute[
        has_bias: Bool, weights_dtype: DType, target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        weights: InputTensor[dtype=weights_dtype, rank=2, ...],
        bias: InputTensor[dtype=weights_dtype, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var n_rows = x.dim_size[0]() * x.dim_size[1]()
        var n_out = weights.dim_size[0]()
        var n_in = weights.dim_size[1]()
        var x_at = x.unsafe_ptr()
        var weights_at = weights.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var bytes = n_out * n_in * size_of[Scalar[weights_dtype]]()
        var tasks = max(1, min(num_physical_cores(), bytes // BYTES_OF_A_TASK))
        var share = (n_out + ROWS * tasks - 1) // (ROWS * tasks) * ROWS

        def task(i: Int) raises {var}:
            multiply_range[weights_dtype, has_bias](
                x_at, weights_at, bias_at, y_at, n_rows, n_in, n_out, min(n_out, i * share), min(n_out, (i + 1) * share)
            )

        if tasks == 1:
            task(0)
        else:
            sync_parallelize(task, tasks)
