"""How many tasks a kernel's work is shared out to.

A thread that waits for the others of its kernel spins, and where threads are more than cores it takes the CPU from one that
works. So a kernel asks each time how many cores the thread that it runs on may use, of which there are fewer while other
processes transcribe (artifact/cores.py). A single task is done by that thread itself, and no other wakes. What a kernel
gives must not depend on it.
"""

from std.bit import pop_count
from std.ffi import external_call
from std.memory import stack_allocation
from std.sys import CompilationTarget, num_physical_cores

comptime WORDS = 16
"""Of a set of cores as the system has it, with a bit for each."""


@always_inline
def tasks_of(most: Int) -> Int:
    """Gives how many tasks are done soonest, of which there can be at most so many."""
    if most <= 1:
        return 1
    var tasks = min(num_physical_cores(), most)
    comptime if CompilationTarget.is_linux():
        var usable = stack_allocation[WORDS, UInt64]()
        if external_call["sched_getaffinity", Int32](Int32(0), 8 * WORDS, usable) == 0:
            var cores = UInt64(0)
            comptime for i in range(WORDS):
                cores += pop_count(usable[unsafe_offset=i])
            tasks = min(tasks, Int(cores))
    return tasks
