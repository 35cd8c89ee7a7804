"""Drives the generators of transcriptions: hands their requests to the scheduler, and the answers back to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from max_whisper.runtime.transcription.requests import Done, Request, Steps
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler


def drive(
    scheduler: Scheduler, transcriptions: Sequence[tuple[Caller, Steps[Done]]], at_once: int
) -> Iterator[tuple[int, Done | None]]:
    """Yields the results of several transcriptions as they come, each with the index of its transcription.

    The last result of a transcription is followed by None. At most `at_once` transcriptions run at a time, and each
    gets the same answers as alone. An error that one of them raises ends all.
    """
    waiting = deque(range(len(transcriptions)))
    futures: dict[int, Future[Any]] = {}

    def proceed(index: int, answered: Future[Any] | None) -> Iterator[tuple[int, Done | None]]:
        """Continues a transcription: yields its results up to its next request, and submits that."""
        caller, steps = transcriptions[index]
        step = _resume(steps, answered)
        while step is not None and not isinstance(step, Request):
            yield index, step
            step = _resume(steps, None)
        if step is None:
            yield index, None
        else:
            futures[index] = scheduler.submit(step, caller)

    try:
        while waiting or futures:
            while waiting and len(futures) < at_once:
                yield from proceed(waiting.popleft(), None)
            if futures:
                scheduler.wait(futures.values())
            for index in [index for index, future in futures.items() if future.done()]:
                yield from proceed(index, futures.pop(index))
    finally:
        for future in futures.values():
            future.cancel()


def in_order(done: Iterable[tuple[int, Done | None]], n: int) -> Iterator[Done]:
    """Yields the results that `drive` yields of n transcriptions, all of the first before those of the second."""
    kept: list[list[Done]] = [[] for _ in range(n)]
    ended: set[int] = set()
    current = 0
    for index, item in done:
        if item is None:
            ended.add(index)
        else:
            kept[index].append(item)
        while current < n:
            yield from kept[current]
            kept[current] = []
            if current not in ended:
                break
            current += 1


def _resume(steps: Steps[Done], answered: Future[Any] | None) -> Request[Any] | Done | None:
    """Continues a transcription with the answer to its last request, or with its error; returns None at the end."""
    try:
        if answered is None:
            return next(steps)
        error = answered.exception()
        return steps.throw(error) if error is not None else steps.send(answered.result())
    except StopIteration:
        return None
