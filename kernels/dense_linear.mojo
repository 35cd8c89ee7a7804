"""A linear layer for many rows of activations, as the encoder has them: bound by arithmetic.

    y = residual + activation(rows(layernorm(x)) @ weights^T + bias)

All but the product can be left out. Weights are packed once, at build time (weights/packing.py), as float32, bfloat16 or
int8 panels (see tile.mojo); int8 ones have a scale for each output. Activations are float32 in memory; each block of rows
is brought into the form that the product takes in scratch that stays in the L2 cache, with layer normalisation on the
way there, and bias, activation and residual while sums are in registers. Each CPU core takes a share of the rows.

`dense_projections` are three such layers of the same rows, which are brought into form once.

A row of the product is `n_in` numbers of x that stand together, and the next row's begin `step` numbers later. For a
convolution over time these are the rows that an output sees: they overlap, and the first begins `before` numbers ahead
of the first, where there are zeros.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.memory import stack_allocation
from std.memory.alloc import unsafe_alloc

from .cores import tasks_of
from .numerics import activate, copy, load_some, normalise
from .tile import LANES, PANEL, ROWS, multiply_tile, per_group, sum_dtype, to_groups

comptime SCRATCH = 1 << 18
"""Bytes of a block of rows; weights are read once for each block."""


@fieldwise_init
struct Rows(Copyable, ImplicitlyCopyable, Movable):
    """Where the rows of a product are, and how they are cut into blocks of strips of ROWS rows."""

    var windows: Int  # of the batch
    var of_a_window: Int
    var numbers: Int  # in x, of each window
    var width: Int  # numbers of a row
    var step: Int  # from one row to the next
    var before: Int  # zeros ahead of the first row
    var room: Int  # groups of a row, to a whole vector
    var strips_of_a_block: Int

    @staticmethod
    def of[dtype: DType](windows: Int, rows: Int, numbers: Int, width: Int, step: Int, before: Int) -> Self:
        var room = ceildiv(width, LANES * per_group[dtype]) * LANES
        var strips = max(1, SCRATCH // (4 * (room + LANES) * ROWS))
        return Self(windows, rows, numbers, width, step, before, room, strips)

    @always_inline
    def stride(self) -> Int:
        """Groups from a row to the next in scratch: rows of 4096 bytes do not share a place in the cache."""
        return self.room + LANES

    @always_inline
    def strips(self) -> Int:
        """Of each window."""
        return ceildiv(self.of_a_window, ROWS)

    @always_inline
    def all_strips(self) -> Int:
        return self.windows * self.strips()



struct Block(Movable):
    """Some strips of rows as groups, in scratch."""

    var line: Pointer[Float32, MutUntrackedOrigin]
    """A row before it is brought into groups, with zeros to a whole vector of them."""
    var groups: Pointer[UInt32, MutUntrackedOrigin]
    var scales: Pointer[Float32, MutUntrackedOrigin]
    """Of each row."""

    def __init__(out self, rows: Rows, numbers: Int):
        """For a line with room for so many numbers."""
        self.line = unsafe_alloc[Float32](numbers)
        self.groups = unsafe_alloc[UInt32](rows.strips_of_a_block * ROWS * rows.stride())
        self.scales = unsafe_alloc[Float32](rows.strips_of_a_block * ROWS)
        for i in range(numbers):
            self.line.unsafe_store(i, Float32(0))

    def __del__(deinit self):
        self.line.unsafe_free()
        self.groups.unsafe_free()
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
    """Gives strips first to last as a block."""
    var line = block.line
    var width = rows.width
    for strip in range(first, last):
        var window = x.unsafe_offset(strip // rows.strips() * rows.numbers)
        for i in range(ROWS):
            var row = min(strip % rows.strips() * ROWS + i, rows.of_a_window - 1)
            var start = row * rows.step - rows.before
            var present = min(width, max(0, -start))  # padding may be wider than the row
            var end = max(present, min(width, rows.numbers - start))
            for c in range(present):
                line.unsafe_store(c, Float32(0))
            for c in range(end, width):
                line.unsafe_store(c, Float32(0))
            comptime if has_norm:
                normalise(window.unsafe_offset(start), norm_weight, norm_bias, eps, line, width)
            else:
                copy(window.unsafe_offset(start + present), line.unsafe_offset(present), end - present)
            var place = (strip - first) * ROWS + i
            var groups = block.groups.unsafe_offset(place * rows.stride())
            block.scales.unsafe_store(place, to_groups[dtype](line, width, groups))


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
    residual_step: Int,
    y: Pointer[mut=True, Scalar[y_dtype], ...],
    heads: Int,
    head_width: Int,
):
    """Gives strips first to last of y, [batch, heads, rows, head_width], of what load_block gave."""
    comptime size = per_group[dtype]
    var n_out = heads * head_width
    var groups = ceildiv(rows.width, size)
    var strips = rows.strips()
    var zeros = stack_allocation[PANEL, Scalar[sum_dtype[dtype]]]()
    var sums = stack_allocation[ROWS * PANEL, Scalar[sum_dtype[dtype]]]()
    for i in range(PANEL):
        zeros.unsafe_store(i, Scalar[sum_dtype[dtype]](0))

    @always_inline
    def store(strip: Int, panel: Int) {imm}:
        var window = strip // strips
        var first_row = strip % strips * ROWS
        for column in range(panel * PANEL, min(n_out, (panel + 1) * PANEL), LANES):
            var valid = min(LANES, n_out - column)
            var scale = load_some(scales.unsafe_offset(column), valid if dtype == DType.int8 else 0)
            var excess = load_some(scales.unsafe_offset(n_out + column), valid if dtype == DType.int8 else 0)
            var shift = load_some(bias.unsafe_offset(column), valid if has_bias else 0)
            var head = column // head_width
            var inside = column % head_width
            var whole = valid == LANES and inside + LANES <= head_width
            for i in range(min(ROWS, rows.of_a_window - first_row)):
                var row = first_row + i
                var sum = sums.unsafe_load[width=LANES](i * PANEL + column - panel * PANEL)
                var value = sum.cast[DType.float32]()
                comptime if dtype == DType.int8:
                    value = value.fma(scale, -excess) * block.scales.unsafe_load((strip - first) * ROWS + i)
                value = activate[activation](value + shift)
                comptime if has_residual:
                    var at = window * residual_step + row * n_out + column
                    value += load_some(residual.unsafe_offset(at), valid)
                var y_row = y.unsafe_offset(((window * heads + head) * rows.of_a_window + row) * head_width)
                if whole:
                    y_row.unsafe_store(inside, value.cast[y_dtype]())
                    continue
                for j in range(valid):
                    var heads_on = (inside + j) // head_width
                    var place = heads_on * rows.of_a_window * head_width + (inside + j) % head_width
                    y_row.unsafe_store(place, value[j].cast[y_dtype]())

    for panel in range(ceildiv(n_out, PANEL)):
        for strip in range(first, last):
            multiply_tile[dtype](
                block.groups.unsafe_offset((strip - first) * ROWS * rows.stride()),
                rows.stride(),
                weights.unsafe_offset(panel * groups * PANEL * size),
                groups,
                zeros,
                sums,
            )
            store(strip, panel)


@extensibility.register("dense_linear")
struct DenseLinear:
    """Takes x [batch, length, channels], weights [panels, groups, 32 * numbers of a group] and what else there is.

    scales: of int8 weights, [2, out]: what an output is multiplied with, and the product of that with 128 times the sum
    of its weights, because the rows' zero is 128. residual: [batch or 1, rows, out]. What is not there is not read.
    Gives y [batch, heads, rows, out / heads], float32 or bfloat16: with one head, the rows as they are; with more, what
    attention over these rows reads.
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
        step: Int64,
        before: Int64,
        ctx: DeviceContext,
    ) raises:
        var numbers = x.dim_size[1]() * x.dim_size[2]()
        var rows = Rows.of[dtype](x.dim_size[0](), y.dim_size[2](), numbers, Int(n_in), Int(step), Int(before))
        var heads = y.dim_size[1]()
        var head_width = y.dim_size[3]()
        var residual_step = rows.of_a_window * heads * head_width if residual.dim_size[0]() > 1 else 0
        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var weights_at = weights.unsafe_ptr()
        var scales_at = scales.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var norm_weight_at = norm_weight.unsafe_ptr()
        var norm_bias_at = norm_bias.unsafe_ptr()
        var residual_at = residual.unsafe_ptr()

        var tasks = tasks_of(rows.all_strips())

        def share(i: Int) raises {imm}:
            var block = Block(rows, rows.room * per_group[dtype])
            var end = (i + 1) * rows.all_strips() // tasks
            for first in range(i * rows.all_strips() // tasks, end, rows.strips_of_a_block):
                var last = min(end, first + rows.strips_of_a_block)
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
                    residual_step,
                    y_at,
                    heads,
                    head_width,
                )

        sync_parallelize(share, tasks)


@extensibility.register("dense_projections")
struct DenseProjections:
    """Three linear layers of the same rows x [batch, rows, in], for attention: of q and v with a bias, of k without.

    Weights [panels, groups, 32 * numbers of a group], scales and layer normalisation are as `dense_linear` takes them. Each
    gives [batch, rows, out].
    """

    @staticmethod
    def execute[
        dtype: DType, has_norm: Bool, target: StaticString
    ](
        q: OutputTensor[dtype=DType.float32, rank=3, ...],
        k: OutputTensor[dtype=DType.float32, rank=3, ...],
        v: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        q_weights: InputTensor[dtype=dtype, rank=3, ...],
        k_weights: InputTensor[dtype=dtype, rank=3, ...],
        v_weights: InputTensor[dtype=dtype, rank=3, ...],
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
        var width = x.dim_size[2]()
        var rows = Rows.of[dtype](x.dim_size[0](), x.dim_size[1](), x.dim_size[1]() * width, width, width, 0)
        var n_out = q.dim_size[2]()
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

        var tasks = tasks_of(rows.all_strips())

        def share(i: Int) raises {imm}:
            var block = Block(rows, rows.room * per_group[dtype])

            @always_inline
            def multiply[
                has_bias: Bool
            ](
                first: Int,
                last: Int,
                weights: Pointer[Scalar[dtype], ...],
                scales: Pointer[Float32, ...],
                bias: Pointer[Float32, ...],
                y: Pointer[mut=True, Float32, ...],
            ) {imm}:
                multiply_block[dtype, DType.float32, has_bias, False, "none"](
                    rows, first, last, block, weights, scales, bias, x_at, 0, y, 1, n_out
                )

            var end = (i + 1) * rows.all_strips() // tasks
            for first in range(i * rows.all_strips() // tasks, end, rows.strips_of_a_block):
                var last = min(end, first + rows.strips_of_a_block)
                load_block[dtype, has_norm](rows, first, last, x_at, norm_weight_at, norm_bias_at, eps, block)
                multiply[True](first, last, q_weights_at, q_scales_at, q_bias_at, q_at)
                multiply[False](first, last, k_weights_at, k_scales_at, q_bias_at, k_at)
                multiply[True](first, last, v_weights_at, v_scales_at, v_bias_at, v_at)

        sync_parallelize(share, tasks)
