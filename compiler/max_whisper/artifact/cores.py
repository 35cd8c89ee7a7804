"""The CPU cores that MAX's threads work on: those that the seats of this process give it, see seats.py.

MAX's threads spin while they wait for each other. Alone that is the fastest; but where threads are more than cores, one
that waits takes the CPU from one that works, and two processes at once took twice as long as one after the other.
Kernels make as many tasks as the thread that runs them may use cores (kernels/cores.mojo), so all that is done here is
to bind these threads to some: on a single core none waits for another.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

from max_whisper.artifact.seats import Locks, Seats

LOOK_EVERY = 0.01
"""Seconds between looks at who else is at work, which take some microseconds."""
SAMPLE = 0.05
"""Seconds for which it is measured how busy each core is."""
_NAME = "🔥 Thread"  # what the names of the threads begin with on which MAX runs kernels


class AtWork:
    """To be entered while there is work: this process sits at a core, and others can see that.

    Several threads may be in it, and one may enter it again: MAX's threads work for all of them.
    """

    def __init__(self) -> None:
        self._locks: Locks | None = None
        self.start_anew()

    def start_anew(self) -> None:
        """In a forked process, which has none of its parent's threads: its seats are its own."""
        if self._locks is not None:
            self._locks.close()
        self._lock = threading.Lock()
        self._entered = 0
        self._next_look = 0.0
        self._locks = None
        self._seats: Seats | None = None
        self._bound: set[int] = set()  # to which MAX's threads are

    def __enter__(self) -> None:
        with self._lock:
            seats = self._made()
            self._entered += 1
            if not seats.taken:
                seats.sit()
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + LOOK_EVERY
                self._bind(seats.use())

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered == 0 and self._seats is not None:
                self._seats.leave()

    def choose(self, count: int) -> list[int]:
        """The least busy of the cores that this process may use: those where the fewest others sit, then by their load.

        The process sits there until this is left, so that no other can choose the same meanwhile.
        """
        with self._lock:
            seats = self._made()
            seats.leave()
            return seats.stay(count, least_busy(seats.cores))

    def _made(self) -> Seats:
        """The seats, made when they are needed first."""
        if self._seats is None:
            cores = usable_cores()
            self._locks = Locks(seats_file())
            self._seats = Seats(self._locks, cores)
            self._bound = {*cores}
        return self._seats

    def _bind(self, cores: set[int]) -> None:
        if cores != self._bound and (threads := max_threads()):
            for thread in threads:
                with contextlib.suppress(OSError):  # it has ended, or the cores are no longer this process's
                    os.sched_setaffinity(thread, cores)
            self._bound = cores


def usable_cores() -> set[int]:
    """Those that this process may use; of its main thread, as others may be bound to some of them."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(os.getpid())
    return {*range(os.cpu_count() or 1)}


def least_busy(cores: Collection[int]) -> list[int]:
    """Cores in the order of how busy they are, in tenths; equal ones by number. Takes SAMPLE seconds."""
    before = _ticks()
    time.sleep(SAMPLE)
    after = _ticks()

    def load(core: int) -> float:
        if core not in before or core not in after:
            return 0.0
        (idle, total), (idle_now, total_now) = before[core], after[core]
        return round(1 - (idle_now - idle) / max(total_now - total, 1), 1)

    return sorted(cores, key=lambda core: (load(core), core))


def _ticks() -> dict[int, tuple[int, int]]:
    """Of each core, for how long it was idle, and in all, in 100ths of a second (/proc/stat, proc(5))."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                user, nice, system, idle, waiting, *others = map(int, fields[:8])
                found[int(name[3:])] = (idle + waiting, user + nice + system + idle + waiting + sum(others))
    return found


def max_threads() -> list[int]:
    """The threads of this process that MAX runs kernels on, none before it has started them; by their names."""
    found = []
    if sys.platform == "linux":
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                if (task / "comm").read_bytes().startswith(_NAME.encode()):
                    found.append(int(task.name))
    return found


def seats_file() -> Path:
    """For all processes of this user, wherever they were started."""
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK):
        import tempfile  # takes 3 ms, and Linux has the other

        folder = Path(tempfile.gettempdir())
    return folder / f"max-whisper-{os.getuid()}.seats"


AT_WORK = AtWork()
os.register_at_fork(after_in_child=AT_WORK.start_anew)
