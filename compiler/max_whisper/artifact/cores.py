"""Keeps MAX's threads on the CPU cores that this process has claimed (see core_claims.py).

MAX's threads busy-wait for each other. Alone that is fastest; but where there are more threads than cores, a thread
that waits takes the CPU from one that works, and two processes at once took twice as long as one after the other.
A kernel works on one thread for each core that the one running it may use (kernels/parallel.mojo), so binding MAX's
threads to cores is all that is done here: on a single core no thread waits for another.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

from max_whisper.artifact.core_claims import ClaimFile, CoreClaims

CHECK_INTERVAL = 0.01
"""The seconds between checks for other processes, each of which takes some microseconds."""
SAMPLE = 0.05
"""The seconds for which the load of the cores is measured."""
_THREAD_NAME = "🔥 Thread"  # the beginning of the names of the threads that MAX runs kernels on


class CoreSharing:
    """A context to be in while this process computes: it claims a core, which other processes can see.

    Several threads may enter it, and a thread may enter it again: MAX's threads work for all of them.
    """

    def __init__(self) -> None:
        self._file: ClaimFile | None = None
        self.reset()

    def reset(self) -> None:
        """Gives up all claims and forgets the cores; also for a forked process, whose claims are its parent's."""
        if self._file is not None:
            self._file.close()
        self._lock = threading.Lock()
        self._entered = 0
        self._next_check = 0.0
        self._file = None
        self._claims: CoreClaims | None = None
        self._bound: set[int] = set()  # the cores that MAX's threads are bound to

    def __enter__(self) -> None:
        with self._lock:
            claims = self._open_claims()
            self._entered += 1
            if not claims.active:
                claims.claim()
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + CHECK_INTERVAL
                self._bind(claims.cores_to_use())

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered == 0 and self._claims is not None:
                self._claims.release()

    def reserve(self, count: int) -> list[int]:
        """Claims the least busy cores that this process may use, uses no others from now on, and returns them.

        Cores that fewest others have claimed come first, then those of the lowest load. The claims hold until this
        context is left, so that no other process chooses the same cores meanwhile.
        """
        with self._lock:
            claims = self._open_claims()
            claims.release()
            return claims.claim_fixed(count, least_busy(claims.cores))

    def _open_claims(self) -> CoreClaims:
        """Returns the claims of this process; the first call opens their file."""
        if self._claims is None:
            cores = usable_cores()
            self._file = ClaimFile(claim_path())
            self._claims = CoreClaims(self._file, cores)
            self._bound = {*cores}
        return self._claims

    def _bind(self, cores: set[int]) -> None:
        """Binds MAX's threads to cores."""
        if cores != self._bound and (threads := max_threads()):
            for thread in threads:
                with contextlib.suppress(OSError):  # it has ended, or the process may no longer use these cores
                    os.sched_setaffinity(thread, cores)
            self._bound = cores


def usable_cores() -> set[int]:
    """Returns the cores that this process may use; its main thread decides, as others may be bound to a few of them."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(os.getpid())
    return {*range(os.cpu_count() or 1)}


def least_busy(cores: Collection[int]) -> list[int]:
    """Returns cores sorted by load, rounded to tenths, then by number; measuring the load takes SAMPLE seconds."""
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
    """Returns the idle time and the total time of each core, in 100ths of a second (/proc/stat, proc(5))."""
    ticks = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                user, nice, system, idle, iowait, *rest = map(int, fields[:8])
                ticks[int(name[3:])] = (idle + iowait, user + nice + system + idle + iowait + sum(rest))
    return ticks


def max_threads() -> list[int]:
    """Returns the ids of the threads that MAX runs kernels on, which their names show; none before MAX starts."""
    threads = []
    if sys.platform == "linux":
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                if (task / "comm").read_bytes().startswith(_THREAD_NAME.encode()):
                    threads.append(int(task.name))
    return threads


def claim_path() -> Path:
    """Returns the path of the file of claims, which is the same for all processes of this user."""
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK):
        import tempfile  # takes 3 ms, and Linux has the other folder

        folder = Path(tempfile.gettempdir())
    return folder / f"max-whisper-{os.getuid()}.claims"


core_sharing = CoreSharing()
os.register_at_fork(after_in_child=core_sharing.reset)
