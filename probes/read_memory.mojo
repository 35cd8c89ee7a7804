"""Measures how fast the CPU's cores together read memory that no cache holds."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.memory import stack_allocation
from std.sys.intrinsics import PrefetchOptions, prefetch

comptime BYTES = 64
"""Of a register, and of a cache line."""
comptime SUMS = 8
comptime PREFETCH_DISTANCE = 6144
"""Bytes from what is read to what is prefetched, as in kernels/prefetch.mojo."""


@extensibility.register("read_memory")
struct ReadMemory:
    """Reads `memory`, uint8 [bytes], with as many cores as `results` has rows, each its own part.

    The results, uint8 [cores, 64], keep the compiler from leaving out the work.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        results: OutputTensor[dtype=DType.uint8, rank=2, ...],
        memory: InputTensor[dtype=DType.uint8, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var start = memory.unsafe_ptr()
        var out = results.unsafe_ptr()
        var cores = results.dim_size[0]()
        comptime block = BYTES * SUMS
        var blocks = memory.dim_size[0]() // block

        def task(core: Int) raises {var}:
            var sums = stack_allocation[SUMS, SIMD[DType.uint8, BYTES]]()
            comptime for i in range(SUMS):
                sums[unsafe_offset=i] = 0
            for at in range(core * blocks // cores * block, (core + 1) * blocks // cores * block, block):
                comptime for i in range(SUMS):
                    var here = start.unsafe_offset(at + i * BYTES)
                    prefetch[PrefetchOptions().for_read().high_locality().to_data_cache()](
                        here.unsafe_offset(PREFETCH_DISTANCE)
                    )
                    sums[unsafe_offset=i] ^= here.unsafe_load[width=BYTES](0)
            var total = SIMD[DType.uint8, BYTES](0)
            comptime for i in range(SUMS):
                total ^= sums[unsafe_offset=i]
            out.unsafe_store(core * BYTES, total)

        sync_parallelize(task, cores)
