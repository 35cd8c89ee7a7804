"""Writes the times at which a kernel of a graph begins and ends.

A graph may run an op at any time after its inputs have been computed. So the kernel takes one of its operands from
`clock_before`, and `clock_after` takes the kernel's result. Clocks that share `times` run in the order in which the
graph has them: no other kernel with clocks runs in between.
"""

import extensibility
from extensibility import InputTensor, OutputTensor, _MutableInputTensor
from max.gpu.host import DeviceContext
from std.time import perf_counter_ns


@extensibility.register("clock_before")
struct ClockBefore:
    """Returns a copy of an operand, then writes the time in nanoseconds to `times`, int64 [slots], at `slot`."""

    @staticmethod
    def execute[
        dtype: DType, rank: Int, target: StaticString
    ](
        copy: OutputTensor[dtype=dtype, rank=rank, ...],
        operand: InputTensor[dtype=dtype, rank=rank, ...],
        times: _MutableInputTensor[dtype=DType.int64, rank=1, ...],
        slot: Int64,
        ctx: DeviceContext,
    ) raises:
        for i in range(operand.size()):
            copy.unsafe_ptr().unsafe_store(i, operand.unsafe_ptr().unsafe_load(i))
        times.unsafe_ptr().unsafe_store(Int(slot), Int64(perf_counter_ns()))


@extensibility.register("clock_after")
struct ClockAfter:
    """Writes the time in nanoseconds to `times`, int64 [slots], at `slot`, after `result`, which it does not read."""

    @staticmethod
    def execute[
        dtype: DType, rank: Int, target: StaticString
    ](
        result: InputTensor[dtype=dtype, rank=rank, ...],
        times: _MutableInputTensor[dtype=DType.int64, rank=1, ...],
        slot: Int64,
        ctx: DeviceContext,
    ) raises:
        times.unsafe_ptr().unsafe_store(Int(slot), Int64(perf_counter_ns()))
