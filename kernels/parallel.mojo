"""How the work of a kernel is shared among threads: each takes the next item until none is left.

The calling thread begins at once. The others come as soon as they have woken up, which takes longer than a small layer;
whoever is late finds less to do, or nothing. No item waits for a thread that has not begun, which may be busy with the
kernel of another model; at the end, MAX lets it look in once more. A thread whose core is slower, because of other
programs, takes fewer items. The result of an item must not depend on who computes it, nor on their number.

A thread that waits for the last items spins; where there are more threads than cores, it takes the CPU from a thread
that works. So a kernel asks in each call how many cores its own thread may use; there are fewer of them while other
processes transcribe (artifact/cores.py).
"""

from max.gpu.host.device_context import DeviceContextBase
from std.atomic import Atomic
from std.bit import pop_count
from std.ffi import external_call
from std.memory import stack_allocation
from std.sys import CompilationTarget, num_physical_cores
from std.utils.numerics import FlushDenormals

comptime BYTES_PER_THREAD = 1 << 17
"""Who reads less than this is done before another thread has woken up."""
comptime CPU_SET_WORDS = 16
"""The size of Linux's `cpu_set_t`, which has a bit for each core, in 64-bit words."""


@always_inline
def thread_count(at_most: Int) -> Int:
    """Returns how many threads may work: one for each core that this thread may use, and no more than `at_most`."""
    if at_most <= 1:
        return 1
    var threads = min(num_physical_cores(), at_most)
    comptime if CompilationTarget.is_linux():
        var usable = stack_allocation[CPU_SET_WORDS, UInt64]()
        if external_call["sched_getaffinity", Int32](Int32(0), 8 * CPU_SET_WORDS, usable) == 0:
            var cores = UInt64(0)
            comptime for i in range(CPU_SET_WORDS):
                cores += pop_count(usable[unsafe_offset=i])
            threads = min(threads, Int(cores))
    return threads


@always_inline
def on_threads[Work: def(Int) -> None](threads: Int, work: Work) raises:
    """Calls `work` on the calling thread, and on as many others as make up `threads`.

    It is called once more than that, as a rule when all the work is done: kernels run on a thread of MAX, which has its
    share of what is given to all threads, and comes to it last.
    """

    @always_inline
    def rounded_alike(i: Int) {imm}:
        with FlushDenormals():  # the bits of a result must not depend on the thread
            work(i)

    if threads <= 1:
        rounded_alike(0)
        return
    var all = DeviceContextBase[CompilationTarget()](api="cpu")
    all.enqueue_cpu_range(rounded_alike, count=threads)
    rounded_alike(0)
    all.synchronize()
    _ = rounded_alike  # which the other threads call until here


@always_inline
def for_each[Work: def(Int) -> None](items: Int, threads: Int, work: Work) raises:
    """Calls `work` once for each number below `items`, on up to `threads` threads."""
    var taken = stack_allocation[1, Int64]()
    taken.unsafe_store(0, Int64(0))

    @always_inline
    def take(thread: Int) {imm}:
        while True:
            var item = Int(Atomic.fetch_add(taken, Int64(1)))
            if item >= items:
                return
            work(item)

    on_threads(min(threads, items), take)
