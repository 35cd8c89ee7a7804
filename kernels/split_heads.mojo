"""From rows that hold all heads side by side to rows of each head, as attention over them reads them."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.sys import num_physical_cores

from .numerics import WIDTH


@extensibility.register("split_heads")
struct SplitHeads:
    """Takes x [batch, length, heads * width]; gives y [batch, heads, length, width], float32 or bfloat16."""

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        y: OutputTensor[dtype=dtype, rank=4, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        ctx: DeviceContext,
    ) raises:
        var heads = y.dim_size[1]()
        var length = y.dim_size[2]()
        var width = y.dim_size[3]()
        var pairs = y.dim_size[0]() * heads
        var x_at = x.unsafe_ptr()
        var y_at = y.unsafe_ptr()

        var tasks = min(num_physical_cores(), pairs)

        def share(i: Int) raises {imm}:
            for pair in range(i * pairs // tasks, (i + 1) * pairs // tasks):
                for row in range(length):
                    var source = x_at.unsafe_offset(
                        (pair // heads * length + row) * heads * width + pair % heads * width
                    )
                    var place = y_at.unsafe_offset((pair * length + row) * width)
                    var whole = width // WIDTH * WIDTH
                    for c in range(0, whole, WIDTH):
                        place.unsafe_store(c, source.unsafe_load[width=WIDTH](c).cast[dtype]())
                    for c in range(whole, width):
                        place.unsafe_store(c, source.unsafe_load(c).cast[dtype]())

        sync_parallelize(share, tasks)
