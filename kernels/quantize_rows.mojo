"""The rows of each head's keys or values in 8 bits, with a scale for each row, so that a token reads half the bytes.

From keys, their mean is subtracted first. That changes all scores of a query by the same amount, and so no attention
weight, but leaves smaller numbers to round (SageAttention, Zhang et al., 2024).
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc

from .numerics import LANES
from .pack_attention import mean_of_rows, subtract
from .parallel import for_each, thread_count
from .tile import int8_scale, max_abs


@extensibility.register("quantize_rows")
struct QuantizeRows:
    """Takes x [batch, heads, length, channels]; returns rows like it, and scales [batch, heads, length]."""

    @staticmethod
    def execute[
        centered: Bool, target: StaticString
    ](
        rows: OutputTensor[dtype=DType.int8, rank=4, ...],
        scales: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=4, ...],
        ctx: DeviceContext,
    ) raises:
        var heads = x.dim_size[0]() * x.dim_size[1]()
        var length = x.dim_size[2]()
        var channels = x.dim_size[3]()
        var x_at = x.unsafe_ptr()
        var rows_at = rows.unsafe_ptr()
        var scales_at = scales.unsafe_ptr()

        def one_head(head: Int) {imm}:
            var place = head * length
            quantize_head[centered](
                x_at.unsafe_offset(place * channels),
                length,
                channels,
                rows_at.unsafe_offset(place * channels),
                scales_at.unsafe_offset(place),
            )

        for_each(heads, thread_count(heads), one_head)


def quantize_head[
    centered: Bool
](
    x: Pointer[Float32, ...],
    n_rows: Int,
    n: Int,
    rows: Pointer[mut=True, Int8, ...],
    scales: Pointer[mut=True, Float32, ...],
):
    """Writes n_rows rows of n numbers, rounded to multiples of the row's scale."""
    var padded = ceildiv(n, LANES) * LANES
    var whole = n // LANES * LANES
    var mean = unsafe_alloc[Float32](padded)
    var line = unsafe_alloc[Float32](padded)
    for c in range(padded):
        mean.unsafe_store(c, Float32(0))
        line.unsafe_store(c, Float32(0))
    comptime if centered:
        mean_of_rows(x, n, n_rows, n, mean)
    for t in range(n_rows):
        subtract(x.unsafe_offset(t * n), mean, line, n)
        var scale = int8_scale(max_abs(line, n))
        var inverse = 1 / scale
        var place = rows.unsafe_offset(t * n)
        scales.unsafe_store(t, scale)
        for c in range(0, whole, LANES):
            place.unsafe_store(c, round(line.unsafe_load[width=LANES](c) * inverse).cast[DType.int8]())
        for c in range(whole, n):
            place.unsafe_store(c, round(line.unsafe_load(c) * inverse).cast[DType.int8]())
    mean.unsafe_free()
    line.unsafe_free()
