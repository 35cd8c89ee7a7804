"""A linear layer for many rows of activations, as the encoder has them: bound by arithmetic.

    y = residual + activation(rows(layernorm(x)) @ weights^T + bias)

All but the product can be left out. Weights are packed once, at build time (weights/packing.py), as float32, bfloat16 or
int8 panels (see tile.mojo); int8 ones have a scale for each output. Activations are float32 in memory; each block of rows
is brought into the form that the product takes in scratch that stays in the L2 cache, with layer normalisation on the
way there, and bias, activation and residual while sums are in registers. Each CPU core takes a share of the rows.

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
from std.sys import num_physical_cores

from .numerics import activate, copy, load_some, normalise
from .tile import LANES, PANEL, ROWS, multiply_tile, per_group, sum_dtype, to_groups

comptime SCRATCH = 1 << 18
"""Bytes of a block of rows; weights are read once for each block."""


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
        comptime size = per_group[dtype]
        var heads = y.dim_size[1]()
        var rows = y.dim_size[2]()
        var head_width = y.dim_size[3]()
        var n_out = heads * head_width
        var numbers = x.dim_size[1]() * x.dim_size[2]()
        var panels = weights.dim_size[0]()
        var groups = weights.dim_size[1]()
        var width = Int(n_in)
        var room = ceildiv(width, LANES * size) * LANES
        var stride = room + LANES  # so that rows of 4096 bytes do not share a place in the cache
        var strips = ceildiv(rows, ROWS)
        var all_strips = x.dim_size[0]() * strips
        var strips_of_a_block = max(1, SCRATCH // (4 * stride * ROWS))
        var residual_step = rows * n_out if residual.dim_size[0]() > 1 else 0
        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var weights_at = weights.unsafe_ptr()
        var scales_at = scales.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var norm_weight_at = norm_weight.unsafe_ptr()
        var norm_bias_at = norm_bias.unsafe_ptr()
        var residual_at = residual.unsafe_ptr()

        def compute(first: Int, last: Int) {imm}:
            """Does some of the strips of ROWS rows, of all windows of the batch."""
            var line = unsafe_alloc[Float32](room * size)
            var block = unsafe_alloc[UInt32](strips_of_a_block * ROWS * stride)
            var row_scales = unsafe_alloc[Float32](strips_of_a_block * ROWS)
            var zeros = stack_allocation[PANEL, Scalar[sum_dtype[dtype]]]()
            var sums = stack_allocation[ROWS * PANEL, Scalar[sum_dtype[dtype]]]()
            for i in range(PANEL):
                zeros.unsafe_store(i, Scalar[sum_dtype[dtype]](0))
            for i in range(room * size):
                line.unsafe_store(i, Float32(0))

            def load(strip: Int, slot: Int) {imm}:
                var window = x_at.unsafe_offset(strip // strips * numbers)
                for i in range(ROWS):
                    var row = min(strip % strips * ROWS + i, rows - 1)
                    var start = row * Int(step) - Int(before)
                    var present = min(width, max(0, -start))  # padding may be wider than the row
                    var end = max(present, min(width, numbers - start))
                    for c in range(present):
                        line.unsafe_store(c, Float32(0))
                    for c in range(end, width):
                        line.unsafe_store(c, Float32(0))
                    comptime if has_norm:
                        normalise(window.unsafe_offset(start), norm_weight_at, norm_bias_at, eps, line, width)
                    else:
                        copy(window.unsafe_offset(start + present), line.unsafe_offset(present), end - present)
                    var place = slot * ROWS + i
                    row_scales.unsafe_store(place, to_groups[dtype](line, width, block.unsafe_offset(place * stride)))

            def store(strip: Int, slot: Int, panel: Int) {imm}:
                var window = strip // strips
                var first_row = strip % strips * ROWS
                for column in range(panel * PANEL, min(n_out, (panel + 1) * PANEL), LANES):
                    var valid = min(LANES, n_out - column)
                    var scale = load_some(scales_at.unsafe_offset(column), valid if dtype == DType.int8 else 0)
                    var excess = load_some(scales_at.unsafe_offset(n_out + column), valid if dtype == DType.int8 else 0)
                    var shift = load_some(bias_at.unsafe_offset(column), valid if has_bias else 0)
                    var head = column // head_width
                    var inside = column % head_width
                    var whole = valid == LANES and inside + LANES <= head_width
                    for i in range(min(ROWS, rows - first_row)):
                        var row = first_row + i
                        var sum = sums.unsafe_load[width=LANES](i * PANEL + column - panel * PANEL)
                        var value = sum.cast[DType.float32]()
                        comptime if dtype == DType.int8:
                            value = value.fma(scale, -excess) * row_scales.unsafe_load(slot * ROWS + i)
                        value = activate[activation](value + shift)
                        comptime if has_residual:
                            var at = window * residual_step + row * n_out + column
                            value += load_some(residual_at.unsafe_offset(at), valid)
                        var y_row = y_at.unsafe_offset(((window * heads + head) * rows + row) * head_width)
                        if whole:
                            y_row.unsafe_store(inside, value.cast[y_dtype]())
                            continue
                        for j in range(valid):
                            var heads_on = (inside + j) // head_width
                            y_row.unsafe_store(heads_on * rows * head_width + (inside + j) % head_width, value[j].cast[y_dtype]())

            for start in range(first, last, strips_of_a_block):
                var end = min(last, start + strips_of_a_block)
                for strip in range(start, end):
                    load(strip, strip - start)
                for panel in range(panels):
                    for strip in range(start, end):
                        multiply_tile[dtype](
                            block.unsafe_offset((strip - start) * ROWS * stride),
                            stride,
                            weights_at.unsafe_offset(panel * groups * PANEL * size),
                            groups,
                            zeros,
                            sums,
                        )
                        store(strip, strip - start, panel)
            line.unsafe_free()
            block.unsafe_free()
            row_scales.unsafe_free()

        var tasks = min(num_physical_cores(), all_strips)

        def share(i: Int) raises {imm}:
            compute(i * all_strips // tasks, (i + 1) * all_strips // tasks)

        sync_parallelize(share, tasks)
