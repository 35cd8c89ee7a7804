"""The times at which a kernel of a graph begins and ends.

A graph runs what it can as soon as it can, or later. So the kernel takes one of its operands from `clock_before`, and
`clock_after` takes what the kernel gives. Clocks that share `times` go in the order in which the graph has them: no
other kernel with clocks runs in between.
"""

import extensibility
from extensibility import InputTensor, OutputTensor, _MutableInputTensor
from max.gpu.host import DeviceContext
from std.time import perf_counter_ns


@extensibility.register("clock_before")
struct ClockBefore:
    """Gives a copy of an operand; then writes nanoseconds into `times`, int64 [slots], at `slot`."""

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
    """Writes nanoseconds into `times`, int64 [slots], at `slot`, once `result` is there, of which nothing is read."""

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
