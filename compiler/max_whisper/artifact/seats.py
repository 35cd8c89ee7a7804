"""Which CPU cores a process works on while others of the same user work too.

Who works sits at a core, and uses that one and a share of those where nobody sits. Where more work than there are
cores, some sit behind others, and use one core together.

A seat is a byte of a file that all these processes open, and who sits there holds its lock ("open file description
locks", fcntl_locking(2)). Two cannot take the same, and the system gives it back however a process ends.
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

CALM = 0.3
"""Seconds for which there must have been room for more cores before they are used: others rest between two windows."""

_WIDTH = 4096  # bytes of a row of seats, one for each core
_ROWS = 64  # in front, and behind others
_STAYING = _ROWS  # the row of bytes that say of who sits in front that it wants no other core
_FLOCK = struct.Struct("hhqqi4x")  # with an off_t of 64 bits: type, whence, start, length, process


class Locks:
    """The locked bytes of a file, as one of those who open it sees them."""

    def __init__(self, file: Path) -> None:
        """file: made if it is not there. Without one, or if it is another user's, nobody is seen to sit anywhere."""
        self._fd = _opened(file)

    def take(self, row: int, core: int) -> bool:
        """Whether this one is ours now; it is not if another has it."""
        return self._fd is None or self._set(fcntl.F_WRLCK, row, core)

    def give_back(self, row: int, core: int) -> None:
        if self._fd is not None:
            self._set(fcntl.F_UNLCK, row, core)

    def taken(self, row: int, cores: Sequence[int]) -> set[int]:
        """Of some cores, in order, those of which others have the byte in a row."""
        if self._fd is None or not cores:
            return set()
        found = self._first(row, cores[0], cores[-1])
        if found is None:
            return set()
        first, last = found
        here = {core for core in cores if first <= core <= last}
        before, behind = [core for core in cores if core < first], [core for core in cores if core > last]
        return here | self.taken(row, before) | self.taken(row, behind)

    def close(self) -> None:
        """Gives all back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _set(self, kind: int, row: int, core: int) -> bool:
        try:
            self._ask(fcntl.F_OFD_SETLK, kind, row * _WIDTH + core, 1)
        except OSError:
            return False
        return True

    def _first(self, row: int, first: int, last: int) -> tuple[int, int] | None:
        """From and to which core a lock of another is, if there is one from `first` to `last`."""
        begin = row * _WIDTH
        try:
            kind, _, start, length, _ = self._ask(fcntl.F_OFD_GETLK, fcntl.F_WRLCK, begin + first, last - first + 1)
        except OSError:
            return None
        return None if kind == fcntl.F_UNLCK else (start - begin, start - begin + length - 1)

    def _ask(self, command: int, kind: int, start: int, length: int) -> tuple[int, ...]:
        assert self._fd is not None
        return _FLOCK.unpack(fcntl.fcntl(self._fd, command, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)))


def _opened(file: Path) -> int | None:
    if sys.platform != "linux" or not hasattr(fcntl, "F_OFD_SETLK"):
        return None
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return fd
    os.close(fd)
    return None


class Seats:
    """Where a process sits, and which cores it uses because of that."""

    def __init__(self, locks: Locks, cores: Collection[int], clock: Callable[[], float] = time.monotonic) -> None:
        """cores: those that it may use."""
        self.cores = sorted(cores)
        self._locks = locks
        self._clock = clock
        self._rows: dict[int, int] = {}  # by core
        self._before: list[int] = []  # where it sat the last time
        self._stays = False
        self._used: set[int] = set()
        self._room_since: float | None = None

    def sit(self) -> None:
        """Takes a seat, as far in front as there is one."""
        self._take(1, [*self._before, *self.cores])

    def stay(self, count: int, order: Sequence[int]) -> list[int]:
        """Takes seats at so many cores, as far in front as there are, and of those the first in the order.

        Returns these cores; from now on it uses no others.
        """
        self._take(count, order)
        self.cores, self._stays = sorted(self._rows), True
        for core in self.cores:
            self._locks.take(_STAYING, core)
        return self.cores

    def leave(self) -> None:
        """Gives the seats back."""
        for core, row in self._rows.items():
            self._locks.give_back(row, core)
            if self._stays:
                self._locks.give_back(_STAYING, core)
        self._before, self._rows, self._stays = [*self._rows], {}, False

    @property
    def taken(self) -> bool:
        """Whether the process sits anywhere."""
        return bool(self._rows)

    def use(self) -> set[int]:
        """The cores to use now: fewer as soon as others sit down, more when there has been room for a while."""
        self._move_up()
        room, now = self._room(), self._clock()
        if room <= self._used:
            self._room_since = None
        elif self._room_since is None:
            self._room_since = now
        long_enough = self._room_since is not None and now - self._room_since >= CALM
        self._used = room if long_enough else self._used & room or room
        return self._used

    def _room(self) -> set[int]:
        front = {core for core, row in self._rows.items() if row == 0}
        if not front:
            return {min(self._rows, key=lambda core: self._rows[core])}
        others = self._locks.taken(0, self.cores)
        return share(self.cores, front, others, self._locks.taken(_STAYING, sorted(others)))

    def _take(self, count: int, order: Sequence[int]) -> None:
        for row in range(_ROWS):
            for core in order:
                if len(self._rows) == count:
                    return
                if core not in self._rows and (self._locks.take(row, core) or row == _ROWS - 1):  # or sits on the floor
                    self._rows[core] = row

    def _move_up(self) -> None:
        """Takes seats further in front where others have left."""
        for core, row in [*self._rows.items()]:
            for better in range(row):
                free = [other for other in (core, *self.cores) if other == core or other not in self._rows]
                at = next((other for other in free if self._locks.take(better, other)), None)
                if at is not None:
                    del self._rows[core]
                    self._locks.give_back(row, core)
                    self._rows[at] = better
                    if self._stays and better == 0:
                        self._locks.take(_STAYING, at)
                    break


def share(cores: Sequence[int], own: Collection[int], others: Collection[int], staying: Collection[int]) -> set[int]:
    """The cores of one who sits in front: its own, and of those where nobody sits as many as the others who want some.

    cores: those that it may use, in order. others: where others sit. staying: which of them want no other cores.
    """
    sitting = sorted({*own, *others} - {*staying})
    free = [core for core in cores if core not in own and core not in others]
    return {*own, *free[sitting.index(min(own)) :: len(sitting)]}
