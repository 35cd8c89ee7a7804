"""Measures how many products a CPU adds up in a second, from registers alone: of float32, of bfloat16 and of int8.

There are enough independent sums to hide the latency of an instruction: as many as gemm's tile holds in registers.
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
comptime REGISTER = SIMD[DType.uint8, 4 * LANES]
"""512 bits: 16 numbers of float32, 32 of bfloat16 or 64 of int8."""


@always_inline
def multiply_add[operand: DType](sums: REGISTER, x: REGISTER, y: REGISTER) raises -> REGISTER:
    """Returns 16 sums, float32 or int32, plus the products of x and y: one, two or four for each sum."""
    comptime if operand == DType.float32:
        return bitcast[DType.uint8, 4 * LANES](
            bitcast[DType.float32, LANES](x).fma(bitcast[DType.float32, LANES](y), bitcast[DType.float32, LANES](sums))
        )
    elif operand == DType.bfloat16:
        comptime if CompilationTarget._has_feature["avx512bf16"]():
            return bitcast[DType.uint8, 4 * LANES](
                llvm_intrinsic["llvm.x86.avx512bf16.dpbf16ps.512", SIMD[DType.float32, LANES]](
                    bitcast[DType.float32, LANES](sums),
                    bitcast[DType.bfloat16, 2 * LANES](x),
                    bitcast[DType.bfloat16, 2 * LANES](y),
                )
            )
    elif operand == DType.int8:
        comptime if CompilationTarget._has_feature["avx512vnni"]():
            return bitcast[DType.uint8, 4 * LANES](
                llvm_intrinsic["llvm.x86.avx512.vpdpbusd.512", SIMD[DType.int32, LANES]](
                    bitcast[DType.int32, LANES](sums), x, bitcast[DType.int8, 4 * LANES](y)
                )
            )
    raise Error("this CPU has no instruction that adds up such products")


@extensibility.register("multiply_add")
struct MultiplyAdd:
    """Runs `steps` times SUMS multiply-adds on as many cores as `results` has rows; `operands` are two registers.

    The results, uint8 [cores, 64], keep the compiler from leaving out the work.
    """

    @staticmethod
    def execute[
        operand: DType, target: StaticString
    ](
        results: OutputTensor[dtype=DType.uint8, rank=2, ...],
        operands: InputTensor[dtype=DType.uint8, rank=1, ...],
        steps: Int64,
        ctx: DeviceContext,
    ) raises:
        var x = operands.unsafe_ptr().unsafe_load[width=64](0)
        var y = operands.unsafe_ptr().unsafe_load[width=64](64)
        var out = results.unsafe_ptr()

        def task(core: Int) raises {var}:
            var sums = stack_allocation[SUMS, REGISTER]()
            comptime for i in range(SUMS):
                sums[unsafe_offset=i] = REGISTER(UInt8(i))
            for _ in range(Int(steps)):
                comptime for i in range(SUMS):
                    sums[unsafe_offset=i] = multiply_add[operand](sums[unsafe_offset=i], x, y)
            var total = REGISTER(0)
            comptime for i in range(SUMS):
                total ^= sums[unsafe_offset=i]
            out.unsafe_store(core * 64, total)

        sync_parallelize(task, results.dim_size[0]())
