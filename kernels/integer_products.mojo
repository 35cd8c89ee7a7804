"""The products of a few rows of integers with int8 weights that lie as in the checkpoint, [n_out, n_in].

The weights are read in one stream, with a prefetch ahead of it: several streams side by side reach half the speed. The
many rows of a prompt are computed in tiles (prompt_tiles.mojo). This is for CPUs with AVX-512 VNNI.
"""

from std.memory import bitcast, stack_allocation

from .numerics import LANES, LOG2_LANES, store_partial
from .prefetch import prefetch_ahead
from .prompt_tiles import multiply_tiles
from .tile import ROWS, multiply_add

comptime BLOCK = 4
"""Rows that are computed together."""
comptime TILED_ROWS = ROWS
"""The least rows for which panels of the weights are packed."""
comptime INTEGERS = 2 * LANES
"""The integers of a row that are multiplied at once."""


def multiply_integer_rows(
    x: Pointer[Int16, ...],
    scales: Pointer[Float32, ...],
    n_rows: Int,
    n_in: Int,
    stride: Int,
    weights: Pointer[Int8, ...],
    y: Pointer[mut=True, Float32, ...],
    n_out: Int,
    first: Int,
    last: Int,
):
    """Writes the columns first to last of x @ weights^T, times the scales of the rows, to y [n_rows, n_out].

    x is [n_rows, n_in] of integers, with rows `stride` apart; behind a row, zeros fill up a vector, and rows of zeros
    fill up a tile.
    """
    if n_rows >= TILED_ROWS:
        return multiply_tiles(x, stride, scales, n_rows, n_in, weights, y, n_out, first, last)

    @always_inline
    def rows[count: Int, chains: Int](i: Int, j: Int) {imm}:
        multiply_integer_block[count, chains](
            x.unsafe_offset(i * stride),
            scales.unsafe_offset(i),
            weights.unsafe_offset(j * n_in),
            y.unsafe_offset(i * n_out + j),
            n_in,
            stride,
            n_out,
            min(LANES, last - j),
        )

    @always_inline
    def columns[chains: Int]() {imm}:
        var whole_rows = n_rows // BLOCK * BLOCK
        for j in range(first, last, LANES):
            for i in range(0, whole_rows, BLOCK):
                rows[BLOCK, chains](i, j)
            comptime for left in range(1, BLOCK):
                if n_rows - whole_rows == left:
                    rows[left, chains](whole_rows, j)

    if n_in < 4 * INTEGERS:  # the keys of a head
        columns[1]()
    else:
        columns[4]()


@always_inline
def multiply_integer_block[
    rows: Int, chains: Int
](
    x: Pointer[Int16, ...],
    x_scales: Pointer[Float32, ...],
    weights: Pointer[Int8, ...],
    y: Pointer[mut=True, Float32, ...],
    n_in: Int,
    x_stride: Int,
    n_out: Int,
    columns: Int,
):
    """Writes x @ weights^T of integers, times the scales of the rows, to y [rows, up to LANES columns].

    x is [rows, n_in], with rows x_stride apart, behind which zeros fill up a vector; weights are [columns, n_in]. Rows
    of y are n_out apart. The vectors of
    sums of all columns are reduced together, which takes a few instructions for each column. Sums are exact.
    """
    comptime step = INTEGERS * chains
    var sums = stack_allocation[rows * LANES, SIMD[DType.int32, LANES]]()
    for j in range(columns):
        var column = weights.unsafe_offset(j * n_in)
        var parts = stack_allocation[rows * chains, SIMD[DType.int32, LANES]]()
        comptime for i in range(rows * chains):
            parts[unsafe_offset=i] = 0

        @always_inline
        def add[chain: Int](k: Int, w: SIMD[DType.int8, INTEGERS]) {imm}:
            var words = bitcast[DType.uint32, LANES](w.cast[DType.int16]())
            comptime for i in range(rows):
                var vector = x.unsafe_load[width=INTEGERS](i * x_stride + k)
                comptime part = i * chains + chain
                parts[unsafe_offset=part] = multiply_add[DType.int16](
                    bitcast[DType.uint32, LANES](vector), words, parts[unsafe_offset=part]
                )

        var whole = n_in // step * step
        for k in range(0, whole, step):
            comptime for c in range(chains):
                var at = column.unsafe_offset(k + c * INTEGERS)
                prefetch_ahead(at)
                add[c](k + c * INTEGERS, at.unsafe_load[width=INTEGERS](0))
        for k in range(whole, n_in, INTEGERS):
            add[0](k, load_integers(column.unsafe_offset(k), min(INTEGERS, n_in - k)))
        comptime for i in range(rows):
            var sum = parts[unsafe_offset = i * chains]
            comptime for c in range(1, chains):
                sum += parts[unsafe_offset = i * chains + c]
            sums[unsafe_offset = i * LANES + j] = sum
    comptime for i in range(rows):
        var totals = sums_of_vectors(sums.unsafe_offset(i * LANES)).cast[DType.float32]()
        store_partial(y.unsafe_offset(i * n_out), totals * x_scales.unsafe_load(i), columns)


@always_inline
def load_integers(x: Pointer[Int8, ...], n: Int) -> SIMD[DType.int8, INTEGERS]:
    """Returns the first n integers at x, then zeros."""
    if n == INTEGERS:
        return x.unsafe_load[width=INTEGERS](0)
    var vector = SIMD[DType.int8, INTEGERS](0)
    for i in range(n):
        vector[i] = x.unsafe_load(i)
    return vector


@always_inline
def sums_of_vectors(vectors: Pointer[mut=True, SIMD[DType.int32, LANES], ...]) -> SIMD[DType.int32, LANES]:
    """Returns the sum of each of LANES vectors, which are overwritten: in each round, two become one."""
    comptime for round in range(LOG2_LANES):
        comptime half = LANES >> (round + 1)
        comptime for i in range(half):
            var pair = vectors[unsafe_offset=i].interleave(vectors[unsafe_offset = i + half])
            vectors[unsafe_offset=i] = pair.slice[LANES]() + pair.slice[LANES, offset=LANES]()
    return vectors[unsafe_offset=0]
