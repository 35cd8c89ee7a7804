"""The products of a few rows, which few_rows.mojo packs, with weights that lie as in the checkpoint, [n_out, n_in].

For up to FEW_ROWS rows of float32, and for integers, the weights are read in one stream, with a prefetch ahead of it:
several streams side by side reach half the speed. For more rows of float32, blocks of 4 x 4 sums are computed, so that
each weight that was read is used four times. The many rows of integers of a prompt are computed in tiles
(prompt_tiles.mojo).
"""

from std.memory import bitcast, stack_allocation
from std.sys.intrinsics import PrefetchOptions, prefetch

from .numerics import LANES, store_partial
from .prompt_tiles import ROUNDS, multiply_tiles
from .tile import ROWS, multiply_add

comptime BLOCK = 4
"""Rows, and columns, that are computed together."""
comptime FEW_ROWS = 7
"""The most rows of float32 for which the weights are read in one stream."""
comptime TILED_ROWS = ROWS
"""The least rows of integers for which panels of the weights are packed."""
comptime INTEGERS = 2 * LANES
"""The integers of a row that are multiplied at once."""
comptime PREFETCH_DISTANCE = 6144
"""Bytes from what is read to what is prefetched."""
comptime CACHE_LINE = 64
"""Bytes that a prefetch brings."""


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
    of y are n_out apart. The vectors of sums of all columns are summed up together, which takes a few instructions each.
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
def prefetch_ahead[dtype: DType](at: Pointer[Scalar[dtype], ...]):
    """Asks for the cache line that a stream of numbers reads some time after the one at `at`."""
    prefetch[PrefetchOptions().for_read().high_locality().to_data_cache()](
        at.unsafe_bitcast[UInt8]().unsafe_offset(PREFETCH_DISTANCE)
    )


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
    comptime for round in range(ROUNDS):
        comptime half = LANES >> (round + 1)
        comptime for i in range(half):
            var pair = vectors[unsafe_offset=i].interleave(vectors[unsafe_offset = i + half])
            vectors[unsafe_offset=i] = pair.slice[LANES]() + pair.slice[LANES, offset=LANES]()
    return vectors[unsafe_offset=0]
