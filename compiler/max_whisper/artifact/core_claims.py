"""Divides the CPU cores between processes of the same user that work at the same time.

A process that works claims a core: it uses that core, and its share of the cores that nobody has claimed. Where more
processes work than there are cores, several claim the same core, and use it together. Each claim has a rank: the first
claim of a core has rank 0, and those behind it have higher ranks.

A claim is a locked byte of a file that all these processes open ("open file description locks", fcntl_locking(2)). Two
processes cannot hold the same lock, and the system releases it however a process ends.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

if sys.platform == "linux":
    import fcntl

SETTLING_TIME = 0.3
"""The seconds for which more cores must be free before they are used: other processes pause between two windows."""

_MAX_CORES = 4096  # the bytes of the file for each rank, one for each core
_RANKS = 64  # the last rank can be shared
_FIXED = _RANKS  # the bytes after those of the ranks mark claims of rank 0 whose process wants no other cores
_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length and process, with an off_t of 64 bits


class ClaimFile:
    """The file of claims, as one process sees it."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or creates it. If it cannot be used, or is another user's, no other process is ever seen."""
        self._fd = _open(path)

    def acquire(self, rank: int, core: int) -> bool:
        """Claims a core at a rank, and returns whether that worked; it does not if another process has that claim."""
        return self._fd is None or self._lock(fcntl.F_WRLCK, rank, core)

    def release(self, rank: int, core: int) -> None:
        """Gives up a claim."""
        if self._fd is not None:
            self._lock(fcntl.F_UNLCK, rank, core)

    def claimed_by_others(self, rank: int, cores: Sequence[int]) -> set[int]:
        """Returns which of the cores, given in order, other processes have claimed at a rank."""
        if self._fd is None or not cores:
            return set()
        lock = self._first_lock(rank, cores[0], cores[-1])
        if lock is None:
            return set()
        first, last = lock
        claimed = {core for core in cores if first <= core <= last}
        below, above = [core for core in cores if core < first], [core for core in cores if core > last]
        return claimed | self.claimed_by_others(rank, below) | self.claimed_by_others(rank, above)

    def close(self) -> None:
        """Closes the file, which gives up all claims."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _lock(self, kind: int, rank: int, core: int) -> bool:
        try:
            self._fcntl(fcntl.F_OFD_SETLK, kind, rank * _MAX_CORES + core, 1)
        except OSError:
            return False
        return True

    def _first_lock(self, rank: int, first: int, last: int) -> tuple[int, int] | None:
        """Returns the first and the last core of a lock of another process among a range of cores; None if none is."""
        begin = rank * _MAX_CORES
        try:
            kind, _, start, length, _ = self._fcntl(fcntl.F_OFD_GETLK, fcntl.F_WRLCK, begin + first, last - first + 1)
        except OSError:
            return None
        return None if kind == fcntl.F_UNLCK else (start - begin, start - begin + length - 1)

    def _fcntl(self, command: int, kind: int, start: int, length: int) -> tuple[int, ...]:
        assert self._fd is not None
        return _FLOCK.unpack(fcntl.fcntl(self._fd, command, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)))


def _open(path: Path) -> int | None:
    """Opens the file of claims; returns None where it cannot be opened, or belongs to another user."""
    if sys.platform != "linux" or not hasattr(fcntl, "F_OFD_SETLK"):
        return None
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
        return fd
    os.close(fd)
    return None


class CoreClaims:
    """The claims of a process, and the cores that it may use because of them.

    Attributes:
        cores: The cores that it may claim and use, in order.
    """

    def __init__(self, file: ClaimFile, cores: Collection[int], clock: Callable[[], float] = time.monotonic) -> None:
        """Makes no claims yet; `cores` are the cores that the process may use."""
        self.cores = sorted(cores)
        self._file = file
        self._clock = clock
        self._ranks: dict[int, int] = {}  # of the claims, by core
        self._last_cores: list[int] = []  # of the last claims
        self._fixed = False
        self._used: set[int] = set()
        self._more_since: float | None = None  # when more cores than are used became free

    def claim(self) -> None:
        """Claims a core at the lowest rank that is free, and the same core as the last time if it can be."""
        self._claim(1, [*self._last_cores, *self.cores])

    def claim_fixed(self, count: int, order: Sequence[int]) -> list[int]:
        """Claims cores at the lowest ranks that are free, uses no others from now on, and returns them.

        Args:
            count: The number of cores.
            order: The cores, the preferred ones first.
        """
        self._claim(count, order)
        self.cores, self._fixed = sorted(self._ranks), True
        for core in self.cores:
            self._file.acquire(_FIXED, core)
        return self.cores

    def release(self) -> None:
        """Gives up all claims."""
        for core, rank in self._ranks.items():
            self._file.release(rank, core)
            if self._fixed:
                self._file.release(_FIXED, core)
        self._last_cores, self._ranks, self._fixed = [*self._ranks], {}, False

    @property
    def active(self) -> bool:
        """Whether the process has claimed a core."""
        return bool(self._ranks)

    def cores_to_use(self) -> set[int]:
        """Returns the cores to use now: fewer as soon as others claim some, more only after SETTLING_TIME."""
        self._improve_ranks()
        available, now = self._available(), self._clock()
        if available <= self._used:
            self._more_since = None
        elif self._more_since is None:
            self._more_since = now
        settled = self._more_since is not None and now - self._more_since >= SETTLING_TIME
        still_available = self._used & available
        self._used = available if settled or not still_available else still_available
        return self._used

    def _available(self) -> set[int]:
        """Returns the cores that the process may use as things are now."""
        first = {core for core, rank in self._ranks.items() if rank == 0}
        if not first:
            return {min(self._ranks, key=lambda core: self._ranks[core])}
        others = self._file.claimed_by_others(0, self.cores)
        return fair_share(self.cores, first, others, self._file.claimed_by_others(_FIXED, sorted(others)))

    def _claim(self, count: int, order: Sequence[int]) -> None:
        for rank in range(_RANKS):
            for core in order:
                if len(self._ranks) == count:
                    return
                if core not in self._ranks and (self._file.acquire(rank, core) or rank == _RANKS - 1):
                    self._ranks[core] = rank

    def _improve_ranks(self) -> None:
        """Replaces claims by ones of lower ranks, which other processes have given up."""
        for core, rank in [*self._ranks.items()]:
            for lower in range(rank):
                candidates = [other for other in (core, *self.cores) if other == core or other not in self._ranks]
                new = next((candidate for candidate in candidates if self._file.acquire(lower, candidate)), None)
                if new is not None:
                    del self._ranks[core]
                    self._file.release(rank, core)
                    self._ranks[new] = lower
                    if self._fixed and lower == 0:
                        self._file.acquire(_FIXED, new)
                    break


def fair_share(
    cores: Sequence[int], claimed: Collection[int], others: Collection[int], fixed: Collection[int]
) -> set[int]:
    """Returns the cores of a process with claims of rank 0: these, and its share of the cores that nobody claimed.

    Args:
        cores: The cores that the process may use, in order.
        claimed: The cores that it has claimed at rank 0.
        others: The cores that other processes have claimed at rank 0.
        fixed: Those of `others` whose processes want no other cores.
    """
    sharers = sorted({*claimed, *others} - {*fixed})
    free = [core for core in cores if core not in claimed and core not in others]
    return {*claimed, *free[sharers.index(min(claimed)) :: len(sharers)]}
