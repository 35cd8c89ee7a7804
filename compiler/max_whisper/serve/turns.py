"""Lets many threads compute in turn: one window of each, then one of the next, so that a long recording stops nobody.

The scheduler of a model (runtime/transcription/scheduler.py) makes batches of requests that are alike. It does not say
who goes next, and a model of one window at once would let all threads compute at the same time, each the slower for
it. So each worker of the server takes a turn here before it computes a window, and gives it back after that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from max_whisper.serve.jobs import Job


class Turns:
    """The queue of those that want to compute, which is served in order. All methods may be called from any thread."""

    def __init__(self, waited: Callable[[float], None] = lambda seconds: None) -> None:
        """Makes an empty queue. waited: called with the seconds that each one waited for its turn."""
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._kind: Hashable = None  # what those that compute have in common
        self._computing = 0
        self._waited = waited

    @property
    def waiting(self) -> int:
        """The number of threads that wait for a turn."""
        return len(self._queue)

    @contextmanager
    def take(self, job: Job, kind: Hashable, at_once: int) -> Iterator[None]:
        """Waits for a turn, and has it for the time of a block.

        Turns are given in the order in which they are asked for. Several run at once if they are of one kind: the rows
        of a batch are windows of one model.

        Args:
            job: The job that computes. Raises Cancelled, at once, where it is cancelled while it waits.
            kind: What is computed with, such as a model.
            at_once: The number of turns of this kind that may run at the same time.
        """
        started = time.monotonic()
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
        wake = job.on_cancel(self._wake)
        try:
            with self._changed:
                while not job.cancelled and not self._may_begin(ticket, kind, at_once):
                    self._changed.wait()
                self._queue.remove(ticket)
                self._changed.notify_all()
                job.check()
                self._kind = kind
                self._computing += 1
        finally:
            wake()
        self._waited(time.monotonic() - started)
        try:
            yield
        finally:
            with self._changed:
                self._computing -= 1
                self._changed.notify_all()

    def _may_begin(self, ticket: object, kind: Hashable, at_once: int) -> bool:
        if self._queue[0] is not ticket:
            return False
        return self._computing == 0 or (kind == self._kind and self._computing < at_once)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
