"""A connection of a Wyoming client: what it sends, and what is sent to it, has to come and go within some time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from wyoming.asr import Transcript, TranscriptStart, TranscriptStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.ping import Pong

from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import gone, too_long
from max_whisper.serve.uploads import STALLED_SECONDS
from max_whisper.serve.work import Work
from max_whisper.serve.wyoming.fields import read_text
from max_whisper.serve.wyoming.frames import Head, read_head

IDLE_SECONDS = 600.0
"""The seconds without an event after which a connection that asks for nothing is closed."""
WRITE_SECONDS = 30.0
"""The seconds after which a client that does not read its answer is given up."""
PIECE = 64 << 10
"""The bytes of an event that are in memory at the same time."""
MAX_SKIPPED = 1 << 20
"""The most bytes of an event whose bytes nobody needs."""
MAX_DRAINED = 64 << 20
"""The most bytes that are read of a client that was refused, so that it gets to read why."""
DRAIN_SECONDS = 5.0

Value = TypeVar("Value")


class Connection:
    """Reads and writes the events of a connection."""

    def __init__(self, info: Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a connection. info: the answer to `describe`."""
        self._info = info
        self._reader = reader
        self._writer = writer

    async def head(self, work: Work | None = None) -> Head | None:
        """Returns the next event; None where the client has closed the connection.

        work: that of the request to which the event belongs; None between two requests. Raises RequestError where it
        does not come in time, Garbage for what is no event.
        """
        return await self._within(read_head(self._reader), IDLE_SECONDS if work is None else STALLED_SECONDS, work)

    async def piece(self, left: int, work: Work) -> bytes:
        """Returns the next bytes of an event of a request, of which so many are left."""
        piece = await self._within(self._reader.read(min(left, PIECE)), STALLED_SECONDS, work)
        if not piece:
            raise gone()
        return piece

    async def skip_payload(self, head: Head) -> None:
        """Reads the bytes of an event that needs none."""
        if head.payload > MAX_SKIPPED:
            raise RequestError(
                413, f"{head.type} has {head.payload} bytes, expected at most {MAX_SKIPPED}", code="event_too_large"
            )
        left = head.payload
        while left:
            piece = await self._within(self._reader.read(min(left, PIECE)), STALLED_SECONDS)
            if not piece:
                raise gone()
            left -= len(piece)

    async def answer_other(self, head: Head) -> None:
        """Answers an event that has nothing to do with a request; what is not known is left out, as Wyoming asks."""
        if head.type == "describe":
            await self.write(self._info)
        elif head.type == "ping":
            await self.write(Pong(read_text(head.data, "text")).event())

    async def write(self, event: Event) -> None:
        """Sends an event. Raises the reason to end where the client does not read, or has gone."""
        try:
            await asyncio.wait_for(async_write_event(event, self._writer), WRITE_SECONDS)
        except (ConnectionError, asyncio.TimeoutError):
            raise gone() from None

    async def write_nothing(self) -> None:
        """Answers a request without sound."""
        for part in (TranscriptStart(), Transcript(""), TranscriptStop()):
            await self.write(part.event())

    async def refuse(self, error: RequestError) -> None:
        """Sends an error, as far as the client is there and reads it."""
        with contextlib.suppress(Exception):
            await self.write(Error(str(error), error.code).event())
            self._writer.write_eof()
            await asyncio.wait_for(self._drain(), DRAIN_SECONDS)

    def close(self) -> None:
        """Closes the connection."""
        self._writer.close()

    @contextlib.contextmanager
    def interrupted(self, work: Work) -> Iterator[None]:
        """Makes reading raise the reason where the work is cancelled meanwhile, because the server stops."""
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            loop.call_soon_threadsafe(self._reader.set_exception, work.job.reason or gone())

        withdraw = work.job.on_cancel(interrupt)
        try:
            yield
        finally:
            withdraw()

    async def _drain(self) -> None:
        """Reads what the client still sends."""
        left = MAX_DRAINED
        while left > 0 and (data := await self._reader.read(PIECE)):
            left -= len(data)

    async def _within(self, reading: Awaitable[Value], seconds: float, work: Work | None = None) -> Value:
        """Returns what is read. Raises RequestError where it does not come in time, or the time of the work is over."""
        try:
            return await asyncio.wait_for(reading, seconds if work is None else min(seconds, work.seconds_left))
        except asyncio.TimeoutError:
            if work is not None and work.seconds_left <= 0:
                raise too_long() from None
            raise RequestError(
                408, f"nothing came for {seconds:g} seconds: connect and send the request again", code="stalled"
            ) from None
