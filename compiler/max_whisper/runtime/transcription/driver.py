"""Drives transcriptions: hands their requests to the scheduler, and the answers back to them."""

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
    """Yields what is done of several transcriptions as it comes, each with the number of its transcription.

    After the last of a transcription comes None with its number. At most `at_once` are under way at a time; each gets
    the answers that it would get alone. What one raises ends all.
    """
    waiting = deque(range(len(transcriptions)))
    futures: dict[int, Future[Any]] = {}

    def proceed(number: int, answered: Future[Any] | None) -> Iterator[tuple[int, Done | None]]:
        """Yields what comes before the next request, which is submitted."""
        caller, steps = transcriptions[number]
        step = _next(steps, answered)
        while step is not None and not isinstance(step, Request):
            yield number, step
            step = _next(steps, None)
        if step is None:
            yield number, None
        else:
            futures[number] = scheduler.submit(step, caller)

    try:
        while waiting or futures:
            while waiting and len(futures) < at_once:
                yield from proceed(waiting.popleft(), None)
            if futures:
                scheduler.wait(futures.values())
            for number in [number for number, future in futures.items() if future.done()]:
                yield from proceed(number, futures.pop(number))
    finally:
        for future in futures.values():
            future.cancel()


def in_order(done: Iterable[tuple[int, Done | None]], n: int) -> Iterator[Done]:
    """Yields what `drive` yields of n transcriptions in their order: all of the first, then all of the second."""
    kept: list[list[Done]] = [[] for _ in range(n)]
    ended: set[int] = set()
    current = 0
    for number, item in done:
        if item is None:
            ended.add(number)
        else:
            kept[number].append(item)
        while current < n:
            yield from kept[current]
            kept[current] = []
            if current not in ended:
                break
            current += 1


def _next(steps: Steps[Done], answered: Future[Any] | None) -> Request[Any] | Done | None:
    """Returns the next step of a transcription after an answer, or an error, to the last one; None after the end."""
    try:
        if answered is None:
            return next(steps)
        error = answered.exception()
        return steps.throw(error) if error is not None else steps.send(answered.result())
    except StopIteration:
        return None
