"""Hands what a client sends to the thread that hears it, so many bytes at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Generic, TypeVar

from max_whisper.serve.jobs import Job

Message = TypeVar("Message", str, bytes)

MOST_BYTES = 4 << 20
"""The characters or bytes of messages from which on no more is read of a client until they were taken: a minute of
sound at 24 kHz in base64, two at 16 kHz in bytes. It sends faster than it is heard then, and its connection holds it
up."""
MESSAGE_BYTES = 256
"""What a message counts besides its characters: Python takes about so much memory for a text, the time when it came
and the pair of both, so that a flood of empty messages is held up as well."""


class Inbox(Generic[Message]):
    """The messages that were not taken yet, in their order. It is made in the event loop."""

    def __init__(self, job: Job) -> None:
        """Makes an empty one. job: whoever takes gets Cancelled when it ends."""
        self._job = job
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._messages: list[tuple[float, Message]] = []
        self._size = 0
        self._room = asyncio.Event()
        self._room.set()
        self.close = job.on_cancel(self._wake)

    async def put(self, message: Message) -> None:
        """Adds a message, in the event loop, and waits while there is no room for another one."""
        with self._changed:
            self._messages.append((time.monotonic(), message))
            self._size += MESSAGE_BYTES + len(message)
            if self._size >= MOST_BYTES:
                self._room.clear()
            self._changed.notify_all()
        await self._room.wait()

    def take(self, seconds: float | None = None) -> list[tuple[float, Message]]:
        """Returns all messages, each behind the time when it came; none where none comes for some seconds.

        It is called in the thread. seconds: None waits until one comes. Raises Cancelled where the job ends.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._job.cancelled, seconds)
            self._job.check()
            messages, self._messages, self._size = self._messages, [], 0
        if messages:
            self._loop.call_soon_threadsafe(self._room.set)
        return messages

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
