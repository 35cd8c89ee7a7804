"""The products of a few rows of float32 with weights that lie as in the checkpoint, [n_out, n_in].

For up to FEW_ROWS rows, the weights are read in one stream, with a prefetch ahead of it: several streams side by side
reach half the speed. For more rows, blocks of 4 x 4 sums are computed, so that each weight that was read is used four
times.
"""

from std.memory import stack_allocation

from .numerics import LANES
from .prefetch import prefetch_ahead

comptime BLOCK = 4
"""Rows, and columns, that are computed together."""
comptime FEW_ROWS = 7
"""The most rows for which the weights are read in one stream."""


def multiply_float_rows[
    dtype: DType
](
    x: Pointer[Float32, ...],
    n_rows: Int,
    n_in: Int,
    weights: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_out: Int,
    first: Int,
    last: Int,
):
    """Writes the columns first to last of x [n_rows, n_in] @ weights^T to y [n_rows, n_out].

    All blocks of a call have the same number of chains, so that the sums of a row do not depend on its place.
    """

    @always_inline
    def block[rows: Int, columns: Int, chains: Int](i: Int, j: Int) {imm}:
        multiply_float_block[dtype, rows, columns, chains](
            x.unsafe_offset(i * n_in), weights.unsafe_offset(j * n_in), y.unsafe_offset(i * n_out + j), n_in, n_out
        )

    var whole_rows = n_rows // BLOCK * BLOCK
    if n_rows <= FEW_ROWS:
        for j in range(first, last):
            for i in range(0, whole_rows, BLOCK):
                block[BLOCK, 1, 4](i, j)
            comptime for left in range(1, BLOCK):
                if n_rows - whole_rows == left:
                    block[left, 1, 4](whole_rows, j)
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


@always_inline
def multiply_float_block[
    dtype: DType, rows: Int, columns: Int, chains: Int
](
    x: Pointer[Float32, ...],
    weights: Pointer[Scalar[dtype], ...],
    y: Pointer[mut=True, Float32, ...],
    n_in: Int,
    n_out: Int,
):
    """Writes x @ weights^T of float32 rows to y [rows, columns], whose rows are n_out apart.

    x is [rows, n_in], weights are [columns, n_in]. Each sum is split into `chains` vectors, because an addition to a
    vector waits for the one before.
    """
    comptime step = LANES * chains
    var sums = stack_allocation[rows * columns * chains, SIMD[DType.float32, LANES]]()
    comptime for i in range(rows * columns * chains):
        sums[unsafe_offset=i] = 0
    var whole = n_in // step * step
    for k in range(0, whole, step):
        comptime for j in range(columns):
            comptime for c in range(chains):
                var at = weights.unsafe_offset(j * n_in + k + c * LANES)
                comptime if columns == 1:
                    prefetch_ahead(at)
                var w = at.unsafe_load[width=LANES](0).cast[DType.float32]()
                comptime for i in range(rows):
                    comptime sum = (i * columns + j) * chains + c
                    var vector = x.unsafe_load[width=LANES](i * n_in + k + c * LANES)
                    sums[unsafe_offset=sum] = vector.fma(w, sums[unsafe_offset=sum])
    comptime for j in range(columns):
        comptime for i in range(rows):
            comptime first = (i * columns + j) * chains
            var sum = sums[unsafe_offset=first]
            comptime for c in range(1, chains):
                sum += sums[unsafe_offset = first + c]
            var total = sum.reduce_add()
            for k in range(whole, n_in):
                total = x.unsafe_load(i * n_in + k).fma(
                    weights.unsafe_load(j * n_in + k).cast[DType.float32](), total
                )
            y.unsafe_store(i * n_out + j, total)
