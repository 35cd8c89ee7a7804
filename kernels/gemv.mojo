"""A linear layer for few rows, as a decode step has them: bound by reading the weights.

    y = residual + activation(layernorm(x) @ weights^T + bias)

All but the product is optional. The weights are laid out as in the checkpoint, [out, in], in float32, float16, bfloat16
or int8; activations and sums are float32. For up to FEW_ROWS rows the weights are read in one stream, with a prefetch
ahead of it: several streams side by side reach half the speed. For more rows, blocks of 4 x 4 sums are computed, so
that each weight that was read is used four times. Each CPU core computes its own range of outputs. Nothing here depends
on the features of a CPU.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc
from std.sys import size_of
from std.sys.intrinsics import PrefetchOptions, prefetch

from .numerics import LANES, activate, load_partial, normalize_rows, store_partial
from .parallel import BYTES_PER_TASK, task_count

comptime BLOCK = 4
"""Rows, and outputs, that are computed together."""
comptime FEW_ROWS = 7
"""The most rows for which the weights are read in one stream."""
comptime PREFETCH_DISTANCE = 2048
"""Bytes from what is read to what is prefetched."""


@always_inline
def multiply_block[
    dtype: DType, rows: Int, columns: Int, chains: Int
](
    x: Pointer[Float32, ...],
    weights: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_in: Int,
    n_out: Int,
):
    """Writes x @ weights^T to y [rows, columns], whose rows are n_out apart.

    x is [rows, n_in], weights are [columns, n_in]. Each sum is split into `chains` vectors, because an addition to a
    vector waits for the one before.
    """
    comptime step = LANES * chains
    comptime distance = PREFETCH_DISTANCE // size_of[Scalar[dtype]]()
    var sums = stack_allocation[rows * columns * chains, SIMD[DType.float32, LANES]]()
    comptime for i in range(rows * columns * chains):
        sums[unsafe_offset=i] = 0
    var whole = n_in // step * step
    for k in range(0, whole, step):
        comptime for j in range(columns):
            comptime for c in range(chains):
                var at = j * n_in + k + c * LANES
                comptime if columns == 1:
                    prefetch[PrefetchOptions().for_read().high_locality().to_data_cache()](
                        weights.unsafe_offset(at + distance)
                    )
                var w = weights.unsafe_load[width=LANES](at).cast[DType.float32]()
                comptime for i in range(rows):
                    comptime sum = (i * columns + j) * chains + c
                    var vector = x.unsafe_load[width=LANES](i * n_in + k + c * LANES)
                    sums[unsafe_offset=sum] = vector.fma(w, sums[unsafe_offset=sum])
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
    dtype: DType
](
    x: Pointer[Float32, ...],
    weights: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_rows: Int,
    n_in: Int,
    n_out: Int,
    first: Int,
    last: Int,
):
    """Writes the columns first to last of x [n_rows, n_in] @ weights [n_out, n_in]^T to y [n_rows, n_out]."""

    @always_inline
    def block[rows: Int, columns: Int, chains: Int](i: Int, j: Int) {imm}:
        multiply_block[dtype, rows, columns, chains](
            x.unsafe_offset(i * n_in),
            weights.unsafe_offset(j * n_in),
            y.unsafe_offset(i * n_out + j),
            n_in,
            n_out,
        )

    # All blocks of a call have the same number of chains, so that the sums of a row do not depend on its place.
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


def finish_range[
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
    """Applies scales, bias, activation and residual, in place, to the columns first to last of y [n_rows, n_out]."""
    for i in range(n_rows):
        for j in range(first, last, LANES):
            var valid = min(LANES, last - j)
            var place = y.unsafe_offset(i * n_out + j)
            var value = load_partial(place, valid)
            comptime if dtype == DType.int8:
                value *= load_partial(scales.unsafe_offset(j), valid)
            comptime if has_bias:
                value += load_partial(bias.unsafe_offset(j), valid)
            value = activate[activation](value)
            comptime if has_residual:
                value += load_partial(residual.unsafe_offset(i * n_out + j), valid)
            store_partial(place, value, valid)


@always_inline
def outputs_per_task(n_out: Int, tasks: Int) -> Int:
    """Returns how many outputs a task computes: whole blocks, but for the last task."""
    return (n_out + BLOCK * tasks - 1) // (BLOCK * tasks) * BLOCK


@extensibility.register("gemv")
struct Gemv:
    """Takes x [batch, length, in], weights [out, in] and optional operands; returns y [batch, length, out].

    The optional operands are those of `gemm`. Of the scales [2, out] of int8 weights, only the first row is read.
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
        var tasks = task_count(n_out * n_in * size_of[Scalar[dtype]]() // BYTES_PER_TASK)
        var per_task = outputs_per_task(n_out, tasks)

        def task(i: Int) raises {imm}:
            var first = min(n_out, i * per_task)
            var last = min(n_out, first + per_task)
            comptime if has_norm:
                var normed = unsafe_alloc[Float32](n_rows * n_in)
                normalize_rows(x_at, norm_weight_at, norm_bias_at, eps, normed, n_rows, n_in)
                multiply_range[dtype](normed, weights_at, y_at, n_rows, n_in, n_out, first, last)
                normed.unsafe_free()
            else:
                multiply_range[dtype](x_at, weights_at, y_at, n_rows, n_in, n_out, first, last)
            comptime if dtype == DType.int8 or has_bias or has_residual or activation != "none":
                finish_range[dtype, has_bias, has_residual, activation](
                    scales_at, bias_at, residual_at, y_at, n_rows, n_out, first, last
                )

        if tasks == 1:
            task(0)
        else:
            sync_parallelize(task, tasks)
