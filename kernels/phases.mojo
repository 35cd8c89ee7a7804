"""The phases of a kernel on several threads: each has items that the threads take, and ends when all are done.

As in parallel.mojo, no item waits for a thread that has not begun: only for those that work on the phase before. A
thread that comes late passes through the phases that are done. It spins for a while, since the phases of a token take
microseconds; then it lets others have its core, because the thread that it waits for may have lost its own.
"""

from std.atomic import Atomic
from std.ffi import external_call
from std.memory.alloc import unsafe_alloc
from std.sys import CompilationTarget
from std.sys.intrinsics import llvm_intrinsic

comptime COUNTER_STRIDE = 8
"""Each counter has a cache line of its own."""
comptime SPINS = 4000
"""How often a thread looks before it lets others have its core: tens of microseconds."""


struct Phases(Movable):
    """For each phase, how many of its items are taken, and how many are done."""

    var counters: Pointer[Int64, MutUntrackedOrigin]

    def __init__(out self, phases: Int):
        """Begins a number of phases."""
        var n = 2 * phases * COUNTER_STRIDE
        self.counters = unsafe_alloc[Int64](n)
        for i in range(n):
            self.counters.unsafe_store(i, Int64(0))

    def __deinit__(deinit self):
        self.counters.unsafe_free()

    @always_inline
    def _taken(self, phase: Int) -> Pointer[Int64, MutUntrackedOrigin]:
        return self.counters.unsafe_offset(2 * phase * COUNTER_STRIDE)

    @always_inline
    def _done(self, phase: Int) -> Pointer[Int64, MutUntrackedOrigin]:
        return self.counters.unsafe_offset((2 * phase + 1) * COUNTER_STRIDE)

    @always_inline
    def is_open(self, phase: Int, items: Int) -> Bool:
        """Returns whether an item of a phase can be taken still."""
        return Int(Atomic.load(self._taken(phase))) < items

    @always_inline
    def run[Work: def(Int) -> None](self, phase: Int, items: Int, work: Work):
        """Calls `work` for items of a phase until all of them are taken."""
        while True:
            var item = Int(Atomic.fetch_add(self._taken(phase), Int64(1)))
            if item >= items:
                return
            work(item)
            _ = Atomic.fetch_add(self._done(phase), Int64(1))

    @always_inline
    def wait(self, phase: Int, items: Int):
        """Returns when all items of a phase are done."""
        var looks = 0
        while Int(Atomic.load(self._done(phase))) < items:
            looks += 1
            if looks < SPINS:
                pause()
            else:
                _ = external_call["sched_yield", Int32]()


@always_inline
def pause():
    """Tells the CPU that this thread waits for another."""
    comptime if CompilationTarget.is_x86():
        llvm_intrinsic["llvm.x86.sse2.pause", NoneType]()
