"""The product of the many rows of a prompt, as integers, with int8 weights that lie as in the checkpoint.

A panel of weights is packed as words of two numbers, which the tile of tile.mojo multiplies with all rows.
"""

from std.math import ceildiv
from std.memory import bitcast, stack_allocation
from std.memory.alloc import unsafe_alloc

from .numerics import LANES, LOG2_LANES, store_partial
from .tile import PANEL, ROWS, multiply_tile


def multiply_tiles(
    x: Pointer[Int16, ...],
    x_stride: Int,
    scales: Pointer[Float32, ...],
    n_rows: Int,
    n_in: Int,
    weights: Pointer[Int8, ...],
    y: Pointer[mut=True, Float32, ...],
    n_out: Int,
    first: Int,
    last: Int,
):
    """Writes the columns first to last of x [n_rows, n_in] @ weights [n_out, n_in]^T to y [n_rows, n_out].

    Rows of x are x_stride apart; zeros fill up a word, and rows fill up a tile. Each row has a scale.
    """
    var n_words = ceildiv(n_in, 2)
    var panel = unsafe_alloc[Int16](n_words * 2 * PANEL)
    var sums = stack_allocation[ROWS * PANEL, Int32]()
    var zeros = stack_allocation[PANEL, Int32]()
    for j in range(PANEL):
        zeros.unsafe_store(j, Int32(0))
    for column in range(first, last, PANEL):
        var valid = min(PANEL, last - column)
        pack_columns(weights.unsafe_offset(column * n_in), valid, n_in, panel)
        for row in range(0, n_rows, ROWS):
            multiply_tile[DType.int16](
                x.unsafe_offset(row * x_stride).unsafe_bitcast[UInt32](),
                x_stride // 2,
                panel,
                n_words,
                zeros,
                sums,
            )
            for i in range(min(ROWS, n_rows - row)):
                var scale = scales.unsafe_load(row + i)
                for j in range(0, valid, LANES):
                    var total = sums.unsafe_load[width=LANES](i * PANEL + j).cast[DType.float32]()
                    store_partial(y.unsafe_offset((row + i) * n_out + column + j), total * scale, min(LANES, valid - j))
    panel.unsafe_free()


@always_inline
def pack_columns(weights: Pointer[Int8, ...], n_columns: Int, n_in: Int, panel: Pointer[mut=True, Int16, ...]):
    """Writes columns [n_columns, n_in] as a panel of words of two numbers, [words, PANEL, 2] (tile.mojo).

    Copies of the last column fill up the panel.
    """
    comptime step = 2 * LANES
    var words = panel.unsafe_bitcast[UInt32]()
    var whole = n_in // step * step
    for first in range(0, PANEL, LANES):
        for k in range(0, whole, step):
            var square = stack_allocation[LANES, SIMD[DType.uint32, LANES]]()
            comptime for j in range(LANES):
                var column = weights.unsafe_offset(min(first + j, n_columns - 1) * n_in)
                var pairs = column.unsafe_load[width=step](k).cast[DType.int16]()
                square[unsafe_offset=j] = bitcast[DType.uint32, LANES](pairs)
            transpose(square)
            comptime for i in range(LANES):
                words.unsafe_store((k // 2 + i) * PANEL + first, square[unsafe_offset=i])
    for j in range(PANEL):
        var column = weights.unsafe_offset(min(j, n_columns - 1) * n_in)
        for k in range(whole, n_in):
            panel.unsafe_store((k // 2 * PANEL + j) * 2 + k % 2, column.unsafe_load(k).cast[DType.int16]())
        if n_in % 2 == 1:
            panel.unsafe_store((n_in // 2 * PANEL + j) * 2 + 1, Int16(0))


@always_inline
def transpose(square: Pointer[mut=True, SIMD[DType.uint32, LANES], ...]):
    """Transposes LANES vectors of LANES words, in log2(LANES) rounds of interleaving."""
    comptime half = LANES // 2
    comptime for _ in range(LOG2_LANES):
        var after = stack_allocation[LANES, SIMD[DType.uint32, LANES]]()
        comptime for i in range(half):
            var pair = square[unsafe_offset=i].interleave(square[unsafe_offset = i + half])
            after[unsafe_offset = 2 * i] = pair.slice[LANES]()
            after[unsafe_offset = 2 * i + 1] = pair.slice[LANES, offset=LANES]()
        comptime for i in range(LANES):
            square[unsafe_offset=i] = after[unsafe_offset=i]
