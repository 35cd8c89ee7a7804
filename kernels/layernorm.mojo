"""Layer normalization of rows, where no linear layer follows whose kernel could do it."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv

from .numerics import normalize_rows
from .parallel import for_each, thread_count

comptime ROWS_PER_ITEM = 64


@extensibility.register("layernorm")
struct LayerNorm:
    """Takes x [batch, length, channels], weight and bias [channels]; returns y like x."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        weight: InputTensor[dtype=DType.float32, rank=1, ...],
        bias: InputTensor[dtype=DType.float32, rank=1, ...],
        eps: Float32,
        ctx: DeviceContext,
    ) raises:
        var rows = x.dim_size[0]() * x.dim_size[1]()
        var channels = x.dim_size[2]()
        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var weight_at = weight.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()

        def item(i: Int) {imm}:
            var first = i * ROWS_PER_ITEM
            var place = first * channels
            var n_rows = min(ROWS_PER_ITEM, rows - first)
            normalize_rows(
                x_at.unsafe_offset(place), weight_at, bias_at, eps, y_at.unsafe_offset(place), n_rows, channels
            )

        for_each(ceildiv(rows, ROWS_PER_ITEM), thread_count(rows // ROWS_PER_ITEM), item)
