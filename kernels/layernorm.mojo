"""Layer normalization of rows, where no linear layer follows whose kernel could do it."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext

from .numerics import normalize_rows
from .parallel import task_count

comptime ROWS_PER_TASK = 64


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
        var tasks = task_count(rows // ROWS_PER_TASK)

        def task(i: Int) raises {imm}:
            var first = i * rows // tasks
            var n_rows = (i + 1) * rows // tasks - first
            var place = first * channels
            normalize_rows(
                x_at.unsafe_offset(place), weight_at, bias_at, eps, y_at.unsafe_offset(place), n_rows, channels
            )

        if tasks == 1:
            task(0)
        else:
            sync_parallelize(task, tasks)
