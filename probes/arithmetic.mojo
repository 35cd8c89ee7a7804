"""How many products a CPU adds up in a second, from registers alone: of float32, of bfloat16 and of int8.

There are as many sums as hide the latency of an addition, and as a matrix kernel holds in registers.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.memory import bitcast, stack_allocation
from std.sys import CompilationTarget
from std.sys.intrinsics import llvm_intrinsic

comptime SUMS = 24
comptime LANES = 16
comptime BITS = SIMD[DType.uint8, 4 * LANES]
"""A register of operands: 16 of float32, 32 of bfloat16 or 64 of int8."""


@always_inline
def step[operand: DType](sum: BITS, x: BITS, y: BITS) raises -> BITS:
    """Gives 16 sums, float32 or int32, with the products of two registers added: one, two or four to each sum."""
    comptime if operand == DType.float32:
        var old = bitcast[DType.float32, LANES](sum)
        return bitcast[DType.uint8, 4 * LANES](
            bitcast[DType.float32, LANES](x).fma(bitcast[DType.float32, LANES](y), old)
        )
    elif operand == DType.bfloat16:
        comptime if CompilationTarget._has_feature["avx512bf16"]():
            return bitcast[DType.uint8, 4 * LANES](
                llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", SIMD[DType.float32, LANES]](
                    bitcast[DType.float32, LANES](sum),
                    bitcast[DType.bfloat16, 2 * LANES](x),
                    bitcast[DType.bfloat16, 2 * LANES](y),
                )
            )
    elif operand == DType.int8:
        comptime if CompilationTarget._has_feature["avx512vnni"]():
            return bitcast[DType.uint8, 4 * LANES](
                llvm_intrinsic["llvm.x86.avx512.vpdpbusd.512", SIMD[DType.int32, LANES]](
                    bitcast[DType.int32, LANES](sum), x, bitcast[DType.int8, 4 * LANES](y)
                )
            )
    raise Error("this CPU has no such products")


@extensibility.register("add_products")
struct AddProducts:
    """Does `steps` times 24 steps on each of so many cores as `sums` has rows of 64 bytes, with `operands`, 128 bytes.
    """

    @staticmethod
    def execute[
        operand: DType, target: StaticString
    ](
        sums: OutputTensor[dtype=DType.uint8, rank=2, ...],
        operands: InputTensor[dtype=DType.uint8, rank=1, ...],
        steps: Int64,
        ctx: DeviceContext,
    ) raises:
        var x = operands.unsafe_ptr().unsafe_load[width=64](0)
        var y = operands.unsafe_ptr().unsafe_load[width=64](64)
        var out = sums.unsafe_ptr()

        def task(core: Int) raises {var}:
            var held = stack_allocation[SUMS, BITS]()
            comptime for i in range(SUMS):
                held[unsafe_offset=i] = BITS(UInt8(i))
            for _ in range(Int(steps)):
                comptime for i in range(SUMS):
                    held[unsafe_offset=i] = step[operand](held[unsafe_offset=i], x, y)
            var total = BITS(0)
            comptime for i in range(SUMS):
                total ^= held[unsafe_offset=i]
            out.unsafe_store(core * 64, total)

        sync_parallelize(task, sums.dim_size[0]())
