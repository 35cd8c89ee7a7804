"""Layer normalisation of rows, where no linear layer comes after that could do it."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext

from .cores import tasks_of
from .numerics import normalise

comptime ROWS_OF_A_TASK = 64


@extensibility.register("layer_norm")
struct LayerNorm:
    """Takes x [batch, length, width], weight and bias [width]; gives y like x."""

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
        var width = x.dim_size[2]()
        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()
        var weight_at = weight.unsafe_ptr()
        var bias_at = bias.unsafe_ptr()
        var tasks = tasks_of(rows // ROWS_OF_A_TASK)

        def share(i: Int) raises {imm}:
            for row in range(i * rows // tasks, (i + 1) * rows // tasks):
                var place = y_at.unsafe_offset(row * width)
                normalise(x_at.unsafe_offset(row * width), weight_at, bias_at, eps, place, width)

        if tasks == 1:
            share(0)
        else:
            sync_parallelize(share, tasks)
