"""A linear layer for few rows of activations, as a decoder step has them: bound by reading the weights.

Weights stay as the checkpoint has them, [out, in], float32, bfloat16 or int8; activations and sums are float32. Up to
FEW_ROWS rows, the weights are read in one stream, with a prefetch ahead of it: side by side, several streams come at
half the speed. Of more rows blocks of 4 x 4 are computed, so that what was read is used again. Each CPU core takes a
share of the weights. Nothing in it depends on a CPU's features: 16 lanes are one AVX-512 register, two of AVX2, four of
NEON.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc
from std.sys import size_of
from std.sys.intrinsics import PrefetchOptions, prefetch

from .cores import tasks_of
from .numerics import WIDTH, activate, load_some, normalise, store_some

comptime BLOCK = 4
comptime FEW_ROWS = 7
comptime AHEAD = 2048
"""Bytes from what is read to what is prefetched."""
comptime BYTES_OF_A_TASK = 1 << 17
"""Fewer bytes of weights are read sooner than another thread wakes."""


@always_inline
def normalise_rows(
    x: Pointer[Float32, ...],
    weight: Pointer[Float32, ...],
    bias: Pointer[Float32, ...],
    eps: Float32,
    y: Pointer[mut=True, Float32, ...],
    n_rows: Int,
    width: Int,
):
    """Gives y[n_rows, width], the rows of x normalised."""
    for i in range(n_rows):
        normalise(x.unsafe_offset(i * width), weight, bias, eps, y.unsafe_offset(i * width), width)


@always_inline
def multiply[
    weights_dtype: DType, rows: Int, columns: Int, chains: Int
](
    x: Pointer[Float32, ...],
    weights: Pointer[Scalar[weights_dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_in: Int,
    n_out: Int,
):
    """Gives y[rows, columns], whose rows are n_out apart, of x[rows, n_in] and weights[columns, n_in].

    Chains are sums of which each takes every so many-th product, as an addition has to wait for the one before.
    """
    comptime step = WIDTH * chains
    comptime ahead = AHEAD // size_of[Scalar[weights_dtype]]()
    var sums = stack_allocation[rows * columns * chains, SIMD[DType.float32, WIDTH]]()
    comptime for i in range(rows * columns * chains):
        sums[unsafe_offset=i] = 0
    var whole = n_in // step * step
    for k in range(0, whole, step):
        comptime for j in range(columns):
            comptime for c in range(chains):
                var at = j * n_in + k + c * WIDTH
                comptime if columns == 1:
                    prefetch[PrefetchOptions().for_read().high_locality().to_data_cache()](
                        weights.unsafe_offset(at + ahead)
                    )
                var w = weights.unsafe_load[width=WIDTH](at).cast[DType.float32]()
                comptime for i in range(rows):
                    comptime sum = (i * columns + j) * chains + c
                    var some = x.unsafe_load[width=WIDTH](i * n_in + k + c * WIDTH)
                    sums[unsafe_offset=sum] = some.fma(w, sums[unsafe_offset=sum])
    comptime for j in range(columns):
        comptime for i in range(rows):
            comptime first = (i * columns + j) * chains
            var sum = sums[unsafe_offset=first]
            comptime for c in range(1, chains):
                sum += sums[unsafe_offset=first + c]
            var total = sum.reduce_add()
            for k in range(whole, n_in):
                total += x.unsafe_load(i * n_in + k) * weights.unsafe_load(j * n_in + k).cast[DType.float32]()
            y.unsafe_store(i * n_out + j, total)


def multiply_range[
    weights_dtype: DType
](
    x: Pointer[Float32, ...],
    weights: Pointer[Scalar[weights_dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_rows: Int,
    n_in: Int,
    n_out: Int,
    first: Int,
    last: Int,
):
    """Gives columns first to last of y[n_rows, n_out]."""

    @always_inline
    def block[rows: Int, columns: Int, chains: Int](i: Int, j: Int) {imm}:
        multiply[weights_dtype, rows, columns, chains](
            x.unsafe_offset(i * n_in),
            weights.unsafe_offset(j * n_in),
            y.unsafe_offset(i * n_out + j),
            n_in,
            n_out,
        )

    # Chains are as many in all blocks, so that what a row gives does not depend on where it stands.
    var whole_rows = n_rows // BLOCK * BLOCK
    if n_rows <= FEW_ROWS:
        for j in range(first, last):
            for i in range(0, whole_rows, BLOCK):
                block[BLOCK, 1, 4](i, j)
            for i in range(whole_rows, n_rows):
                block[1, 1, 4](i, j)
        return
    var whole_columns = first + (last - first) // BLOCK * BLOCK
    for j in range(first, whole_columns, BLOCK):
        for i in range(0, whole_rows, BLOCK):
            block[BLOCK, BLOCK, 1](i, j)
        for i in range(whole_rows, n_rows):
            block[1, BLOCK, 1](i, j)
    for j in range(whole_columns, last):
        for i in range(n_rows):
            block[1, 1, 1](i, j)


def finish[
    dtype: DType, has_bias: Bool, has_residual: Bool, activation: StaticString
](
    scales: Pointer[Float32, ...],
    bias: Pointer[Float32, ...],
    residual: Pointer[Float32, ...],
    y: Pointer[mut=True, Float32, ...],
    n_rows: Int,
    n_out: Int,
    first: Int,
    last: Int,
):
    """Does all but the product, for columns first to last of y[n_rows, n_out]."""
    for i in range(n_rows):
        for j in range(first, last, WIDTH):
            var valid = min(WIDTH, last - j)
            var place = y.unsafe_offset(i * n_out + j)
            var some = load_some(place, valid)
            comptime if dtype == DType.int8:
                some *= load_some(scales.unsafe_offset(j), valid)
            comptime if has_bias:
                some += load_some(bias.unsafe_offset(j), valid)
            some = activate[activation](some)
            comptime if has_residual:
                some += load_some(residual.unsafe_offset(i * n_out + j), valid)
            store_some(place, some, valid)


@extensibility.register("skinny_linear")
struct SkinnyLinear:
    """Takes x [batch, length, in], weights [out, in] and what else there is, as `dense_linear` does.

    Gives y [batch, length, out].
    """

    @staticmethod
    def execute[
        dtype: DType,
        has_norm: Bool,
        has_bias: Bool,
        has_residual: Bool,
        activation: StaticString,
        target: StaticString,
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        weights: InputTensor[dtype=dtype, rank=2, ...],
        scales: InputTensor[dtype=DType.float32, rank=2, ...],
        bias: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        residual: InputTensor[dtype=DType.float32, rank=3, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var n_rows = x.dim_size[0]() * x.dim_size[1]()
        var n_out = weights.dim_size[0]()
        var n_in = weights.dim_size[1]()
        var x_at = x.unsafe_ptr()
        var weights_at = weights.unsafe_ptr()
        var scales_at = scales.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var norm_weight_at = norm_weight.unsafe_ptr()
        var norm_bias_at = norm_bias.unsafe_ptr()
        var residual_at = residual.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var tasks = tasks_of(n_out * n_in * size_of[Scalar[dtype]]() // BYTES_OF_A_TASK)
        var share = (n_out + BLOCK * tasks - 1) // (BLOCK * tasks) * BLOCK

        def task(i: Int) raises {imm}:
            var first = min(n_out, i * share)
            var last = min(n_out, first + share)
            comptime if has_norm:
                var normed = unsafe_alloc[Float32](n_rows * n_in)
                normalise_rows(x_at, norm_weight_at, norm_bias_at, eps, normed, n_rows, n_in)
                multiply_range[dtype](normed, weights_at, y_at, n_rows, n_in, n_out, first, last)
                normed.unsafe_free()
            else:
                multiply_range[dtype](x_at, weights_at, y_at, n_rows, n_in, n_out, first, last)
            comptime if dtype == DType.int8 or has_bias or has_residual or activation != "none":
                finish[dtype, has_bias, has_residual, activation](
                    scales_at, bias_at, residual_at, y_at, n_rows, n_out, first, last
                )

        if tasks == 1:
            task(0)
        else:
            sync_parallelize(task, tasks)


@extensibility.register("skinny_projections")
struct SkinnyProjections:
    """Three linear layers of the same rows x [batch, length, in], for attention: of q and v with a bias, of k without.

    Weights [out, in], scales and layer normalisation are as `skinny_linear` takes them. Each gives [batch, length, out].
    """

    @staticmethod
    def execute[
        dtype: DType, has_norm: Bool, target: StaticString
    ](
        q: OutputTensor[dtype=DType.float32, rank=3, ...],
        k: OutputTensor[dtype=DType.float32, rank=3, ...],
        v: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        q_weights: InputTensor[dtype=dtype, rank=2, ...],
        k_weights: InputTensor[dtype=dtype, rank=2, ...],
        v_weights: InputTensor[dtype=dtype, rank=2, ...],
        q_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        k_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        v_scales: InputTensor[dtype=DType.float32, rank=2, ...],
        q_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        v_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var n_rows = x.dim_size[0]() * x.dim_size[1]()
        var n_out = q_weights.dim_size[0]()
        var n_in = q_weights.dim_size[1]()
        var x_at = x.unsafe_ptr()
        var q_at = q.unsafe_ptr()
        var k_at = k.unsafe_ptr()
        var v_at = v.unsafe_ptr()
        var q_weights_at = q_weights.unsafe_ptr()
        var k_weights_at = k_weights.unsafe_ptr()
        var v_weights_at = v_weights.unsafe_ptr()
        var q_scales_at = q_scales.unsafe_ptr()
        var k_scales_at = k_scales.unsafe_ptr()
        var v_scales_at = v_scales.unsafe_ptr()
        var q_bias_at = q_bias.unsafe_ptr()
        var v_bias_at = v_bias.unsafe_ptr()
        var norm_weight_at = norm_weight.unsafe_ptr()
        var norm_bias_at = norm_bias.unsafe_ptr()
        var tasks = tasks_of(3 * n_out * n_in * size_of[Scalar[dtype]]() // BYTES_OF_A_TASK)
        var share = (n_out + BLOCK * tasks - 1) // (BLOCK * tasks) * BLOCK

        @always_inline
        def project(rows: Pointer[Float32, ...], first: Int, last: Int) {imm}:
            """Gives columns first to last of all three."""
            multiply_range[dtype](rows, q_weights_at, q_at, n_rows, n_in, n_out, first, last)
            multiply_range[dtype](rows, k_weights_at, k_at, n_rows, n_in, n_out, first, last)
            multiply_range[dtype](rows, v_weights_at, v_at, n_rows, n_in, n_out, first, last)
            finish[dtype, True, False, "none"](q_scales_at, q_bias_at, x_at, q_at, n_rows, n_out, first, last)
            comptime if dtype == DType.int8:
                finish[dtype, False, False, "none"](k_scales_at, q_bias_at, x_at, k_at, n_rows, n_out, first, last)
            finish[dtype, True, False, "none"](v_scales_at, v_bias_at, x_at, v_at, n_rows, n_out, first, last)

        def task(i: Int) raises {imm}:
            var first = min(n_out, i * share)
            var last = min(n_out, first + share)
            comptime if has_norm:
                var normed = unsafe_alloc[Float32](n_rows * n_in)
                normalise_rows(x_at, norm_weight_at, norm_bias_at, eps, normed, n_rows, n_in)
                project(normed, first, last)
                normed.unsafe_free()
            else:
                project(x_at, first, last)

        if tasks == 1:
            task(0)
        else:
            sync_parallelize(task, tasks)
