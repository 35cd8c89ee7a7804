"""A linear layer for many rows, as the encoder has them: bound by arithmetic.

    y = residual + activation(rows(layernorm(x)) @ weights^T + bias)

All but the product is optional. Weights are packed at build time (tensors/pack.py) as float32, bfloat16 or int8 panels
(tile.mojo); int8 weights have a scale for each output. Activations are float32 in memory. A block of rows is normalized
and packed into scratch memory that stays in the L2 cache; bias, activation and residual are applied while sums are in
registers. A thread takes a range of rows at a time.

A row of the product is `n_in` neighboring numbers of x; the next row begins `row_stride` numbers later. The rows of a
convolution over time overlap: they are what each output sees, and `left_padding` zeros stand before the first number.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc

from .numerics import LANES, activate, copy, load_partial, normalize
from .parallel import for_each, thread_count
from .tile import PANEL, ROWS, elements_per_word, multiply_tile, pack_row, sum_dtype

comptime SCRATCH = 1 << 18
"""Bytes of a block of packed rows; the weights are read once for each block."""
comptime ITEMS_PER_THREAD = 4
"""Parts of a product for each thread, so that one that comes late or is slow computes fewer of them."""


@fieldwise_init
struct Rows(Copyable, ImplicitlyCopyable, Movable):
    """Where the rows of a product lie in x.

    They are computed in strips of ROWS rows, which do not cross windows, and in blocks of several strips.
    """

    var windows: Int
    var rows_per_window: Int
    var numbers_per_window: Int
    """The size of a window of x."""
    var n_in: Int
    """The length of a row."""
    var row_stride: Int
    """Numbers of x from the beginning of a row to that of the next."""
    var left_padding: Int
    """Zeros before the first number of a window."""
    var padded_words: Int
    """Words of a packed row, rounded up to whole vectors."""
    var strips_per_block: Int

    @staticmethod
    def of[
        dtype: DType
    ](windows: Int, rows: Int, numbers: Int, n_in: Int, row_stride: Int, left_padding: Int) -> Self:
        """Returns the rows for a product of that dtype."""
        var padded_words = ceildiv(n_in, LANES * elements_per_word[dtype]) * LANES
        var strips = max(1, SCRATCH // (4 * (padded_words + LANES) * ROWS))
        return Self(windows, rows, numbers, n_in, row_stride, left_padding, padded_words, strips)

    @always_inline
    def packed_stride(self) -> Int:
        """Returns the words from a packed row to the next: no multiple of 4096 bytes, which would share a cache set."""
        return self.padded_words + LANES

    @always_inline
    def strips_per_window(self) -> Int:
        return ceildiv(self.rows_per_window, ROWS)

    @always_inline
    def strips(self) -> Int:
        return self.windows * self.strips_per_window()

    @always_inline
    def strips_per_item(self, threads: Int) -> Int:
        """Returns how many strips a thread computes at a time: at most a block, and a few items for each thread."""
        return min(self.strips_per_block, ceildiv(self.strips(), ITEMS_PER_THREAD * threads))


struct Block(Movable):
    """Scratch memory for some strips of packed rows."""

    var line: Pointer[Float32, MutUntrackedOrigin]
    """A row before it is packed, which zeros fill up to whole vectors of words."""
    var words: Pointer[UInt32, MutUntrackedOrigin]
    var scales: Pointer[Float32, MutUntrackedOrigin]
    """One for each row."""

    def __init__(out self, rows: Rows, line_length: Int):
        self.line = unsafe_alloc[Float32](line_length)
        self.words = unsafe_alloc[UInt32](rows.strips_per_block * ROWS * rows.packed_stride())
        self.scales = unsafe_alloc[Float32](rows.strips_per_block * ROWS)
        for i in range(line_length):
            self.line.unsafe_store(i, Float32(0))

    def __deinit__(deinit self):
        self.line.unsafe_free()
        self.words.unsafe_free()
        self.scales.unsafe_free()


def load_block[
    dtype: DType, has_norm: Bool
](
    rows: Rows,
    first: Int,
    last: Int,
    x: Pointer[Float32, ...],
    norm_weight: Pointer[Float32, ...],
    norm_bias: Pointer[Float32, ...],
    eps: Float32,
    block: Block,
):
    """Normalizes and packs the strips first to last of x into a block."""
    var line = block.line
    var n_in = rows.n_in
    for strip in range(first, last):
        var window = x.unsafe_offset(strip // rows.strips_per_window() * rows.numbers_per_window)
        for i in range(ROWS):
            # The last strip of a window is filled up with copies of its last row.
            var row = min(strip % rows.strips_per_window() * ROWS + i, rows.rows_per_window - 1)
            var start = row * rows.row_stride - rows.left_padding
            var begin = min(n_in, max(0, -start))  # padding may be wider than the row
            var end = max(begin, min(n_in, rows.numbers_per_window - start))
            for c in range(begin):
                line.unsafe_store(c, Float32(0))
            for c in range(end, n_in):
                line.unsafe_store(c, Float32(0))
            comptime if has_norm:
                normalize(window.unsafe_offset(start), norm_weight, norm_bias, eps, line, n_in)
            else:
                copy(window.unsafe_offset(start + begin), line.unsafe_offset(begin), end - begin)
            var place = (strip - first) * ROWS + i
            var words = block.words.unsafe_offset(place * rows.packed_stride())
            block.scales.unsafe_store(place, pack_row[dtype](line, n_in, words))


def multiply_block[
    dtype: DType, y_dtype: DType, has_bias: Bool, has_residual: Bool, activation: StaticString
](
    rows: Rows,
    first: Int,
    last: Int,
    block: Block,
    weights: Pointer[Scalar[dtype], ...],
    scales: Pointer[Float32, ...],
    bias: Pointer[Float32, ...],
    residual: Pointer[Float32, ...],
    residual_stride: Int,
    y: Pointer[mut=True, Scalar[y_dtype], ...],
    heads: Int,
    head_dim: Int,
):
    """Writes the strips first to last, which `load_block` packed, of y [batch, heads, rows, head_dim].

    residual_stride: from a window of the residual to the next; 0 if all windows have the same residual.
    """
    var n_out = heads * head_dim
    var n_words = ceildiv(rows.n_in, elements_per_word[dtype])
    var zeros = stack_allocation[PANEL, Scalar[sum_dtype[dtype]]]()
    var sums = stack_allocation[ROWS * PANEL, Scalar[sum_dtype[dtype]]]()
    for i in range(PANEL):
        zeros.unsafe_store(i, Scalar[sum_dtype[dtype]](0))

    @always_inline
    def finish(strip: Int, panel: Int) {imm}:
        """Applies scales, bias, activation and residual to the sums, and writes them to y."""
        var window = strip // rows.strips_per_window()
        var first_row = strip % rows.strips_per_window() * ROWS
        var y_window = y.unsafe_offset(window * rows.rows_per_window * n_out)
        for column in range(panel * PANEL, min(n_out, (panel + 1) * PANEL), LANES):
            var head = column // head_dim
            var channel = column % head_dim
            var valid = min(LANES, n_out - column)
            var scale = load_partial(scales.unsafe_offset(column), valid if dtype == DType.int8 else 0)
            var correction = load_partial(scales.unsafe_offset(n_out + column), valid if dtype == DType.int8 else 0)
            var shift = load_partial(bias.unsafe_offset(column), valid if has_bias else 0)
            for i in range(min(ROWS, rows.rows_per_window - first_row)):
                var row = first_row + i
                var value = sums.unsafe_load[width=LANES](i * PANEL + column - panel * PANEL).cast[DType.float32]()
                comptime if dtype == DType.int8:
                    value = value.fma(scale, -correction) * block.scales.unsafe_load((strip - first) * ROWS + i)
                value = activate[activation, coarse = dtype == DType.int8](value + shift)
                comptime if has_residual:
                    var at = window * residual_stride + row * n_out + column
                    value += load_partial(residual.unsafe_offset(at), valid)
                store_heads(value.cast[y_dtype](), valid, head, channel, row, rows.rows_per_window, head_dim, y_window)

    for panel in range(ceildiv(n_out, PANEL)):
        for strip in range(first, last):
            multiply_tile[dtype](
                block.words.unsafe_offset((strip - first) * ROWS * rows.packed_stride()),
                rows.packed_stride(),
                weights.unsafe_offset(panel * n_words * PANEL * elements_per_word[dtype]),
                n_words,
                zeros,
                sums,
            )
            finish(strip, panel)


@always_inline
def store_heads[
    dtype: DType
](
    value: SIMD[dtype, LANES],
    valid: Int,
    head: Int,
    channel: Int,
    row: Int,
    n_rows: Int,
    head_dim: Int,
    y: Pointer[mut=True, Scalar[dtype], ...],
):
    """Writes `valid` columns of a row, from a channel of a head, to a window of y [heads, n_rows, head_dim]."""
    var y_row = y.unsafe_offset((head * n_rows + row) * head_dim)
    if valid == LANES and channel + LANES <= head_dim:
        y_row.unsafe_store(channel, value)
        return
    for j in range(valid):
        var heads_on = (channel + j) // head_dim
        y_row.unsafe_store(heads_on * n_rows * head_dim + (channel + j) % head_dim, value[j])


@extensibility.register("gemm")
struct Gemm:
    """Takes x [batch, length, channels], packed weights and optional operands; returns y.

    y is [batch, heads, rows, head_dim], float32 or bfloat16: with one head, the rows as they are; with more, the layout
    that attention reads. An absent operand is a dummy that is not read.

    Args of `execute`:
        weights: [panels, words, 32 * elements of a word].
        scales: Of int8 weights, [2, out]: the scale of each output, and its zero-point correction, which is the scale
            times ZERO_POINT times the sum of its weights (tensors/quantize.py).
        bias: [out].
        norm_weight: [n_in], as norm_bias.
        residual: [batch or 1, rows, out].
    """

    @staticmethod
    def execute[
        dtype: DType,
        y_dtype: DType,
        has_norm: Bool,
        has_bias: Bool,
        has_residual: Bool,
        activation: StaticString,
        target: StaticString,
    ](
        y: OutputTensor[dtype=y_dtype, rank=4, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        weights: InputTensor[dtype=dtype, rank=3, ...],
        scales: InputTensor[dtype=DType.float32, rank=2, ...],
        bias: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        residual: InputTensor[dtype=DType.float32, rank=3, ...],
        eps: Float32,
        n_in: Int64,
        row_stride: Int64,
        left_padding: Int64,
        ctx: DeviceContext,
    ) raises:
        var numbers = x.dim_size[1]() * x.dim_size[2]()
        var rows = Rows.of[dtype](
            x.dim_size[0](), y.dim_size[2](), numbers, Int(n_in), Int(row_stride), Int(left_padding)
        )
        var heads = y.dim_size[1]()
        var head_dim = y.dim_size[3]()
        var residual_stride = rows.rows_per_window * heads * head_dim if residual.dim_size[0]() > 1 else 0
        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var weights_at = weights.unsafe_ptr()
        var scales_at = scales.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var norm_weight_at = norm_weight.unsafe_ptr()
        var norm_bias_at = norm_bias.unsafe_ptr()
        var residual_at = residual.unsafe_ptr()
        var threads = thread_count(rows.strips())
        var size = rows.strips_per_item(threads)

        def item(i: Int) {imm}:
            var block = Block(rows, rows.padded_words * elements_per_word[dtype])
            var first = i * size
            var last = min(rows.strips(), first + size)
            load_block[dtype, has_norm](rows, first, last, x_at, norm_weight_at, norm_bias_at, eps, block)
            multiply_block[dtype, y_dtype, has_bias, has_residual, activation](
                rows,
                first,
                last,
                block,
                weights_at,
                scales_at,
                bias_at,
                residual_at,
                residual_stride,
                y_at,
                heads,
                head_dim,
            )

        for_each(ceildiv(rows.strips(), size), threads, item)
