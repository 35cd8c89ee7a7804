"""Who sits where, and which cores each uses: as many `Locks` on one file as there would be processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from max_whisper.artifact.seats import CALM, Locks, Seats, share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the locks are Linux's")


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "seats"


@pytest.fixture
def process(file: Path, clock: Clock) -> Iterator[Callable[[Collection[int]], Seats]]:
    """Makes the seats of one more process, which may use some cores."""
    opened: list[Locks] = []

    def start(cores: Collection[int]) -> Seats:
        opened.append(Locks(file))
        return Seats(opened[-1], cores, clock)

    yield start
    for locks in opened:
        locks.close()


def seated(process: Callable[[Collection[int]], Seats], cores: int, count: int) -> list[Seats]:
    """So many processes that work, and may use all cores."""
    processes = [process(range(cores)) for _ in range(count)]
    for seats in processes:
        seats.sit()
    return processes


@pytest.mark.parametrize(
    ("cores", "used"),
    [
        (1, [{0}, {0}]),
        (2, [{0, 1}]),
        (2, [{0}, {1}]),
        (2, [{0}, {1}, {0}]),
        (2, [{0}, {1}, {0}, {1}]),
        (4, [{0, 2}, {1, 3}]),
        (4, [{0, 3}, {1}, {2}]),
        (9, [{0, 3, 6}, {1, 4, 7}, {2, 5, 8}]),
    ],
)
def test_cores_are_shared(process, cores: int, used: list[set[int]]) -> None:
    assert [seats.use() for seats in seated(process, cores, len(used))] == used


def test_a_seat_is_given_back(process, clock: Clock) -> None:
    one, other = seated(process, 2, 2)
    assert (one.use(), other.use()) == ({0}, {1})
    other.leave()
    assert not other.taken
    third = process(range(2))
    third.sit()
    assert third.use() == {1}


def test_fewer_cores_at_once_and_more_after_a_while(process, clock: Clock) -> None:
    one, other = process(range(2)), process(range(2))
    one.sit()
    assert one.use() == {0, 1}
    other.sit()
    assert one.use() == {0}
    other.leave()
    assert one.use() == {0}
    clock.now += 0.9 * CALM
    assert one.use() == {0}
    other.sit()  # after a rest between two windows
    assert one.use() == {0}
    other.leave()
    clock.now += 0.9 * CALM
    assert one.use() == {0}
    clock.now += 0.9 * CALM
    assert one.use() == {0}
    clock.now += 0.2 * CALM
    assert one.use() == {0, 1}


def test_a_process_takes_the_seat_that_it_had(process) -> None:
    one, other = seated(process, 2, 2)
    one.leave()
    other.leave()
    other.sit()
    one.sit()
    assert (one.use(), other.use()) == ({0}, {1})


def test_who_sits_behind_moves_up(process) -> None:
    first, second, behind = seated(process, 2, 3)
    assert behind.use() == {0}
    second.leave()
    assert behind.use() == {1}
    assert first.use() == {0}


def test_who_may_use_other_cores_is_not_counted(process) -> None:
    low, high = process([0, 1]), process([2, 3])
    low.sit()
    high.sit()
    assert (low.use(), high.use()) == ({0, 1}, {2, 3})


def test_who_stays_leaves_the_other_cores_to_others(process) -> None:
    staying, one = process(range(4)), process(range(4))
    assert staying.stay(1, [2, 0, 1, 3]) == [2]
    one.sit()
    assert staying.use() == {2}
    assert one.use() == {0, 1, 3}
    staying.leave()
    assert not staying.taken


def test_who_stays_behind_another_stays_when_it_moves_up(process) -> None:
    first, behind, one = (process(range(3)) for _ in range(3))
    first.stay(1, [0])
    behind.stay(1, [0])
    first.leave()
    assert behind.use() == {0}
    one.sit()
    assert one.use() == {1, 2}


def test_two_that_choose_the_same_get_different_cores(process) -> None:
    one, other, third = (process(range(4)) for _ in range(3))
    assert one.stay(2, [3, 1, 0, 2]) == [1, 3]
    assert other.stay(2, [3, 1, 0, 2]) == [0, 2]
    assert third.stay(1, [3, 1, 0, 2]) == [3]


def test_the_cores_of_a_share_are_nobody_elses() -> None:
    cores, at = range(16), [1, 4, 5, 11, 12]
    shares = [share(cores, {core}, {*at} - {core}, {5}) for core in at if core != 5]
    assert sorted(core for each in shares for core in each) == sorted({*cores} - {5})


def test_many_seats_behind_each_other(process) -> None:
    """More than there are rows."""
    assert [seats.use() for seats in seated(process, 1, 70)] == [{0}] * 70


def test_a_lock_ends_with_its_process(file: Path) -> None:
    program = "import sys, time; from max_whisper.artifact.seats import *; from pathlib import Path"
    program += "; locks = Locks(Path(sys.argv[1])); print(locks.take(0, 1), flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", program, file], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        locks = Locks(file)
        assert locks.taken(0, [0, 1, 2]) == {1}
        assert not locks.take(0, 1)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert locks.taken(0, [0, 1, 2]) == set()
        assert locks.take(0, 1)
        assert locks.taken(0, [0, 1, 2]) == set(), "one's own are not another's"
        locks.close()
    finally:
        other.kill()
        other.wait()


def _link(file: Path) -> None:
    (file.parent / "target").touch()
    file.symlink_to(file.parent / "target")


def _open_to_all(file: Path) -> None:
    file.touch()
    file.chmod(0o666)


@pytest.mark.parametrize(
    "make", [_link, _open_to_all, lambda file: file.mkdir(), os.mkfifo, lambda file: file.parent.rmdir()]
)
def test_a_file_that_is_not_ones_own_is_not_used(file: Path, clock: Clock, make: Callable[[Path], None]) -> None:
    """A process then works as if it were alone."""
    make(file)
    one, other = (Seats(Locks(file), range(2), clock) for _ in range(2))
    one.sit()
    other.sit()
    assert (one.use(), other.use()) == ({0, 1}, {0, 1})


def test_the_file_is_for_its_user_alone(file: Path) -> None:
    Locks(file).close()
    assert file.stat().st_mode & 0o777 == 0o600
