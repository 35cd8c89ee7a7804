"""How many tasks the work of a kernel is split into.

A thread that waits for the others of its kernel spins; where there are more threads than cores, it takes the CPU from a
thread that works. So a kernel asks in each call how many cores its own thread may use; there are fewer of them while
other processes transcribe (artifact/cores.py). A single task runs on the calling thread, and wakes no other. The result
of a kernel must not depend on the number of tasks.
"""

from std.bit import pop_count
from std.ffi import external_call
from std.memory import stack_allocation
from std.sys import CompilationTarget, num_physical_cores

comptime BYTES_PER_TASK = 1 << 17
"""A task that reads less than this is done before another thread has woken up."""
comptime CPU_SET_WORDS = 16
"""The size of Linux's `cpu_set_t`, which has a bit for each core, in 64-bit words."""


@always_inline
def task_count(at_most: Int) -> Int:
    """Returns how many tasks to run: one for each core that this thread may use, and no more than `at_most`."""
    if at_most <= 1:
        return 1
    var tasks = min(num_physical_cores(), at_most)
    comptime if CompilationTarget.is_linux():
        var usable = stack_allocation[CPU_SET_WORDS, UInt64]()
        if external_call["sched_getaffinity", Int32](Int32(0), 8 * CPU_SET_WORDS, usable) == 0:
            var cores = UInt64(0)
            comptime for i in range(CPU_SET_WORDS):
                cores += pop_count(usable[unsafe_offset=i])
            tasks = min(tasks, Int(cores))
    return tasks
