"""The claims of processes, and the cores that each uses, with a `ClaimFile` for each process on one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from max_whisper.artifact.core_claims import SETTLING_TIME, ClaimFile, CoreClaims, fair_share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the claim_file are Linux's")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "claims"


@pytest.fixture
def process(file: Path, clock: Clock) -> Iterator[Callable[[Collection[int]], CoreClaims]]:
    """Returns a function that makes the claims of one more process, which may use some cores."""
    opened: list[ClaimFile] = []

    def start(cores: Collection[int]) -> CoreClaims:
        opened.append(ClaimFile(file))
        return CoreClaims(opened[-1], cores, clock)

    yield start
    for claim_file in opened:
        claim_file.close()


def working(process: Callable[[Collection[int]], CoreClaims], cores: int, count: int) -> list[CoreClaims]:
    """Returns the claims of `count` processes that work, and may use all cores."""
    processes = [process(range(cores)) for _ in range(count)]
    for claims in processes:
        claims.claim()
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
    assert [claims.cores_to_use() for claims in working(process, cores, len(used))] == used


def test_a_claim_is_released(process, clock: Clock) -> None:
    one, other = working(process, 2, 2)
    assert (one.cores_to_use(), other.cores_to_use()) == ({0}, {1})
    other.release()
    assert not other.active
    third = process(range(2))
    third.claim()
    assert third.cores_to_use() == {1}


def test_fewer_cores_at_once_and_more_after_a_while(process, clock: Clock) -> None:
    one, other = process(range(2)), process(range(2))
    one.claim()
    assert one.cores_to_use() == {0, 1}
    other.claim()
    assert one.cores_to_use() == {0}
    other.release()
    assert one.cores_to_use() == {0}
    clock.now += 0.9 * SETTLING_TIME
    assert one.cores_to_use() == {0}
    other.claim()  # after a rest between two windows
    assert one.cores_to_use() == {0}
    other.release()
    clock.now += 0.9 * SETTLING_TIME
    assert one.cores_to_use() == {0}
    clock.now += 0.9 * SETTLING_TIME
    assert one.cores_to_use() == {0}
    clock.now += 0.2 * SETTLING_TIME
    assert one.cores_to_use() == {0, 1}


def test_a_process_claims_the_core_that_it_had(process) -> None:
    one, other = working(process, 2, 2)
    one.release()
    other.release()
    other.claim()
    one.claim()
    assert (one.cores_to_use(), other.cores_to_use()) == ({0}, {1})


def test_a_claim_behind_another_moves_up(process) -> None:
    first, second, behind = working(process, 2, 3)
    assert behind.cores_to_use() == {0}
    second.release()
    assert behind.cores_to_use() == {1}
    assert first.cores_to_use() == {0}


def test_who_may_use_other_cores_is_not_counted(process) -> None:
    low, high = process([0, 1]), process([2, 3])
    low.claim()
    high.claim()
    assert (low.cores_to_use(), high.cores_to_use()) == ({0, 1}, {2, 3})


def test_a_fixed_claim_leaves_the_other_cores_to_others(process) -> None:
    fixed, one = process(range(4)), process(range(4))
    assert fixed.claim_fixed(1, [2, 0, 1, 3]) == [2]
    one.claim()
    assert fixed.cores_to_use() == {2}
    assert one.cores_to_use() == {0, 1, 3}
    fixed.release()
    assert not fixed.active


def test_a_fixed_claim_stays_fixed_when_it_moves_up(process) -> None:
    first, behind, one = (process(range(3)) for _ in range(3))
    first.claim_fixed(1, [0])
    behind.claim_fixed(1, [0])
    first.release()
    assert behind.cores_to_use() == {0}
    one.claim()
    assert one.cores_to_use() == {1, 2}


def test_two_that_choose_the_same_get_different_cores(process) -> None:
    one, other, third = (process(range(4)) for _ in range(3))
    assert one.claim_fixed(2, [3, 1, 0, 2]) == [1, 3]
    assert other.claim_fixed(2, [3, 1, 0, 2]) == [0, 2]
    assert third.claim_fixed(1, [3, 1, 0, 2]) == [3]


def test_the_cores_of_a_share_are_nobody_elses() -> None:
    cores, at = range(16), [1, 4, 5, 11, 12]
    shares = [fair_share(cores, {core}, {*at} - {core}, {5}) for core in at if core != 5]
    assert sorted(core for each in shares for core in each) == sorted({*cores} - {5})


def test_many_claims_of_one_core(process) -> None:
    """There are more claims than ranks."""
    assert [claims.cores_to_use() for claims in working(process, 1, 70)] == [{0}] * 70


def test_a_lock_ends_with_its_process(file: Path) -> None:
    program = "import sys, time; from max_whisper.artifact.core_claims import *; from pathlib import Path"
    program += (
        "; claim_file = ClaimFile(Path(sys.argv[1])); print(claim_file.acquire(0, 1), flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, file], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        claim_file = ClaimFile(file)
        assert claim_file.claimed_by_others(0, [0, 1, 2]) == {1}
        assert not claim_file.acquire(0, 1)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert claim_file.claimed_by_others(0, [0, 1, 2]) == set()
        assert claim_file.acquire(0, 1)
        assert claim_file.claimed_by_others(0, [0, 1, 2]) == set(), "one's own are not another's"
        claim_file.close()
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
    one, other = (CoreClaims(ClaimFile(file), range(2), clock) for _ in range(2))
    one.claim()
    other.claim()
    assert (one.cores_to_use(), other.cores_to_use()) == ({0, 1}, {0, 1})


def test_the_file_is_for_its_user_alone(file: Path) -> None:
    ClaimFile(file).close()
    assert file.stat().st_mode & 0o777 == 0o600
