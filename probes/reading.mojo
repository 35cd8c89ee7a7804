"""How fast the CPU cores together read memory that no cache holds."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.memory import stack_allocation
from std.sys.intrinsics import PrefetchOptions, prefetch

comptime WIDTH = 64
comptime SUMS = 8
comptime AHEAD = 2048
"""Bytes from what is read to what is prefetched."""


@extensibility.register("read_all")
struct ReadAll:
    """Reads `memory`, uint8 [bytes], in as many shares as `sums` has rows of 64 bytes, one for each core."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        sums: OutputTensor[dtype=DType.uint8, rank=2, ...],
        memory: InputTensor[dtype=DType.uint8, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var start = memory.unsafe_ptr()
        var out = sums.unsafe_ptr()
        var shares = sums.dim_size[0]()
        comptime block = WIDTH * SUMS
        var blocks = memory.dim_size[0]() // block

        def task(core: Int) raises {var}:
            var held = stack_allocation[SUMS, SIMD[DType.uint8, WIDTH]]()
            comptime for i in range(SUMS):
                held[unsafe_offset=i] = 0
            for at in range(core * blocks // shares * block, (core + 1) * blocks // shares * block, block):
                comptime for i in range(SUMS):
                    var here = start.unsafe_offset(at + i * WIDTH)
                    prefetch[PrefetchOptions().for_read().high_locality().to_data_cache()](here.unsafe_offset(AHEAD))
                    held[unsafe_offset=i] ^= here.unsafe_load[width=WIDTH](0)
            var total = SIMD[DType.uint8, WIDTH](0)
            comptime for i in range(SUMS):
                total ^= held[unsafe_offset=i]
            out.unsafe_store(core * WIDTH, total)

        sync_parallelize(task, shares)
