"""Hands what a thread makes to the event loop, a bounded number of things at a time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from max_whisper.serve.jobs import Job

MOST_UNSENT = 64
"""The parts of an answer that are kept for a client that does not read them; its thread waits meanwhile."""
END = object()
"""What `take` returns at the end."""


class Handover:
    """What the thread of a job has given, and its client has not got yet. It is made in the event loop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._loop = asyncio.get_running_loop()
        self._items = asyncio.Queue[Any]()
        self._room = threading.Semaphore(MOST_UNSENT)

    def give(self, item: Any) -> None:
        """Gives a thing, in the thread. Waits where there is no room; raises Cancelled where the job ends meanwhile."""
        if not self._room.acquire(blocking=False):
            withdraw = self._job.on_cancel(lambda: self._room.release())
            self._room.acquire()
            withdraw()
            self._job.check()
        self._loop.call_soon_threadsafe(self._items.put_nowait, item)

    def end(self) -> None:
        """Says, in the event loop, that there will be no more."""
        self._items.put_nowait(END)

    async def take(self, seconds: float | None) -> Any:
        """Returns the next thing, or END. Raises asyncio.TimeoutError where none comes in time."""
        item = await asyncio.wait_for(self._items.get(), seconds)
        self._room.release()
        return item
