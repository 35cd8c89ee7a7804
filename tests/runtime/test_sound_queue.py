"""The queue between what hears sound and a stream: nothing is lost in silence, and times stay right."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from max_whisper.runtime.streaming.backlog import Loss, SoundQueue


def ramp(first: int, count: int, kind: type = np.int16) -> np.ndarray:
    return np.arange(first, first + count).astype(kind)


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_all_that_waits_is_taken_at_once(kind: type) -> None:
    queue = SoundQueue(10)
    assert queue.put(ramp(0, 3, kind)) and queue.put(ramp(3, 4, kind))
    taken = queue.take()
    assert taken.samples.dtype == kind and taken.samples.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert (taken.lost, taken.ended, queue.seconds) == ([], False, 0.7)
    queue.put(ramp(7, 1, kind))
    queue.end()
    taken = queue.take()
    assert (taken.samples.tolist(), taken.ended) == ([7], True)
    assert queue.take().ended and queue.ended


def test_nothing_comes_in_time() -> None:
    began = time.monotonic()
    taken = SoundQueue(10).take(0.05)
    assert len(taken.samples) == 0 and not taken.ended and time.monotonic() - began >= 0.04


def test_the_newest_sound_is_left_out_and_becomes_silence() -> None:
    queue = SoundQueue(10, longest=1.0)
    queue.put(ramp(1, 8))
    assert queue.put(ramp(9, 4))  # two of them fit
    queue.put(ramp(13, 3))
    taken = queue.take()
    assert taken.samples.tolist() == [*range(1, 11), 0, 0, 0, 0, 0]
    assert taken.lost == [Loss(at=1.0, seconds=0.5)] and queue.seconds == 1.5
    queue.put(ramp(16, 2))
    assert queue.take().samples.tolist() == [16, 17]


def test_silence_for_a_long_loss_comes_in_pieces() -> None:
    queue = SoundQueue(10, longest=1.0)
    queue.put(ramp(1, 10))
    for _ in range(5):
        queue.put(ramp(0, 5))
    first = queue.take()
    assert len(first.samples) == 20 and first.lost == [Loss(at=1.0, seconds=2.5)]
    queue.put(ramp(7, 1))
    queue.end()
    second = queue.take()
    assert (second.samples.tolist(), second.lost, second.ended) == ([0] * 10, [], False)
    third = queue.take()
    assert (third.samples.tolist(), third.lost, third.ended) == ([0] * 5 + [7], [], True)


def test_two_losses_are_two() -> None:
    queue = SoundQueue(10, longest=0.2)
    lost = []
    for _ in range(2):
        queue.put(ramp(1, 3))
        lost += queue.take().lost
    assert lost == [Loss(0.2, 0.1), Loss(0.5, 0.1)]


def test_who_can_wait_loses_nothing() -> None:
    queue = SoundQueue(10, longest=1.0)

    def produce() -> None:
        assert queue.put(ramp(0, 95), wait=True)
        queue.end()

    thread = threading.Thread(target=produce)
    thread.start()
    found: list[int] = []
    ended = False
    while not ended:
        taken = queue.take()
        assert len(taken.samples) <= 10 and not taken.lost
        found += taken.samples.tolist()
        ended = taken.ended
    thread.join(5)
    assert found == [*range(95)]


@pytest.mark.parametrize("stop", ["close", "end"])
def test_who_waits_for_room_is_not_kept(stop: str) -> None:
    queue = SoundQueue(10, longest=1.0)
    wanted: list[bool] = []
    thread = threading.Thread(target=lambda: wanted.append(queue.put(ramp(0, 20), wait=True)))
    thread.start()
    time.sleep(0.05)
    getattr(queue, stop)()
    thread.join(5)
    assert wanted == [False] and not queue.put(ramp(0, 1))
    assert queue.take().samples.tolist() == [*range(10)]
