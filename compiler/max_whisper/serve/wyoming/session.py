"""One connection of a Wyoming client: any number of requests, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from contextlib import aclosing
from typing import TypeVar

from wyoming.asr import Transcript, TranscriptStart, TranscriptStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.ping import Pong

from max_whisper.serve.answers import answer_to
from max_whisper.serve.errors import RequestError, request_error
from max_whisper.serve.jobs import gone, too_long
from max_whisper.serve.pool import Entry
from max_whisper.serve.service import Service
from max_whisper.serve.transcribing import Task
from max_whisper.serve.uploads import STALLED_SECONDS
from max_whisper.serve.work import Gone, Work, admitted
from max_whisper.serve.wyoming.answer import answer
from max_whisper.serve.wyoming.fields import Asked, read_asked, read_text
from max_whisper.serve.wyoming.frames import Head, read_head
from max_whisper.serve.wyoming.sound import Sound, read_format

PROTOCOL = "wyoming"
"""The name for metrics, in the place of a path."""
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


class Session:
    """Answers the events of a connection in their order.

    An error ends the connection after it was sent as an event: Home Assistant does not know that event, and would wait
    for a transcript until its user gives up.

    Attributes:
        busy: Whether it works on a request, or says why it does not.
    """

    def __init__(
        self,
        service: Service,
        info: Event,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        closed: Gone,
    ) -> None:
        """Takes a connection. info: the answer to `describe`. closed: waits until the client has closed it."""
        self._service = service
        self._info = info
        self._reader = reader
        self._writer = writer
        self._closed = closed
        self.busy = False

    async def run(self) -> None:
        """Answers events until the client closes the connection, or does something that ends it."""
        try:
            await self._answer_all()
        except Exception as error:
            await self._refuse(error)
        finally:
            self._writer.close()

    async def _refuse(self, error: Exception) -> None:
        """Sends an error, as far as the client is there and reads it."""
        if isinstance(error, ConnectionError):
            return
        refusal = answer_to(error, PROTOCOL)
        if refusal.code == gone().code:
            return
        with contextlib.suppress(Exception):
            await self._write(Error(str(refusal), refusal.code).event())
            self._writer.write_eof()
            await asyncio.wait_for(self._drain(), DRAIN_SECONDS)

    async def _answer_all(self) -> None:
        asked = Asked()
        while head := await self._within(read_head(self._reader), IDLE_SECONDS):
            if head.type in ("audio-start", "audio-chunk"):
                self.busy = True
                await self._request(head, asked)
                self.busy, asked = False, Asked()
                if self._service.stopping:
                    return
                continue
            await self._skip_payload(head)
            if head.type == "audio-stop":  # nothing was heard, as where Home Assistant's microphone gives no sound
                await self._no_text()
            elif head.type == "transcribe":
                asked = read_asked(head.data)
            else:
                await self._other(head)

    async def _request(self, first: Head, asked: Asked) -> None:
        """Answers a request, whose sound begins with an event. asked: what it asks for, as far as that is known."""
        service, status, began = self._service, 200, time.monotonic()
        try:
            async with admitted(service, PROTOCOL, self._closed) as work:
                await self._task(work, asked)  # loads the model while somebody speaks
                sound, asked = await self._hear(first, asked, work)
                if sound is None or not sound.size:
                    await self._no_text()
                    return
                task = await self._task(work, asked)
                async with aclosing(answer(task, sound, asked)) as events:
                    async for event in events:
                        await self._write(event)
        except Exception as error:
            status = request_error(error).status
            raise
        finally:
            service.metrics.requests.labels(PROTOCOL, str(status)).inc()
            service.metrics.latency.labels(PROTOCOL).observe(time.monotonic() - began)

    async def _no_text(self) -> None:
        """Answers a request without sound."""
        for part in (TranscriptStart(), Transcript(""), TranscriptStop()):
            await self._write(part.event())

    async def _task(self, work: Work, asked: Asked) -> Task:
        entry: Entry = self._service.pool.entry(asked.model)
        return Task(work, entry, await work.model(entry))

    async def _hear(self, first: Head, asked: Asked, work: Work) -> tuple[Sound | None, Asked]:
        """Returns the sound until `audio-stop`, which is closed with the work, and what the request asks for."""
        sound: Sound | None = None
        head: Head | None = first
        with self._interrupted(work):
            while head is not None:
                if head.type in ("audio-start", "audio-chunk"):
                    sound = self._sound(head, sound, work)
                if head.type == "audio-chunk" and sound is not None:
                    await self._add(head, sound, work)
                else:
                    await self._skip_payload(head)
                if head.type == "audio-stop":
                    return sound, asked
                if head.type == "transcribe":
                    asked = read_asked(head.data)
                else:
                    await self._other(head)
                head = await self._of_request(read_head(self._reader), work)
        raise gone()

    def _sound(self, head: Head, sound: Sound | None, work: Work) -> Sound:
        """Returns where the sound of an event belongs. The format of chunks counts, and must stay the same."""
        format = read_format(head.data)
        if sound is None:
            sound = Sound(format, self._service.options)
            work.held.callback(sound.close)
        elif sound.format != format:
            if sound.size:
                raise RequestError(
                    400, f"the sound changed from {sound.format} to {format}: send audio-stop before", code="bad_event"
                )
            sound.begin(format)
        return sound

    async def _add(self, head: Head, sound: Sound, work: Work) -> None:
        """Adds the bytes of an event to the sound."""
        sound.check_room(head.payload)
        left = head.payload
        while left:
            piece = await self._of_request(self._reader.read(min(left, PIECE)), work)
            if not piece:
                raise gone()
            work.uploaded.take(len(piece))
            await sound.write(piece)
            left -= len(piece)

    @contextlib.contextmanager
    def _interrupted(self, work: Work) -> Iterator[None]:
        """Makes reading raise the reason where the work is cancelled meanwhile, because the server stops."""
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            loop.call_soon_threadsafe(self._reader.set_exception, work.job.reason or gone())

        withdraw = work.job.on_cancel(interrupt)
        try:
            yield
        finally:
            withdraw()

    async def _other(self, head: Head) -> None:
        """Answers an event that has nothing to do with a request; what is not known is left out, as Wyoming asks."""
        if head.type == "describe":
            await self._write(self._info)
        elif head.type == "ping":
            await self._write(Pong(read_text(head.data, "text")).event())

    async def _skip_payload(self, head: Head) -> None:
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

    async def _drain(self) -> None:
        """Reads what the client still sends."""
        left = MAX_DRAINED
        while left > 0 and (data := await self._reader.read(PIECE)):
            left -= len(data)

    async def _of_request(self, reading: Awaitable[Value], work: Work) -> Value:
        """Returns what is read for a request. Raises RequestError where nothing comes, or its time is over."""
        return await self._within(reading, min(STALLED_SECONDS, work.seconds_left), work)

    async def _within(self, reading: Awaitable[Value], seconds: float, work: Work | None = None) -> Value:
        """Returns what is read. Raises RequestError where it does not come in time."""
        try:
            return await asyncio.wait_for(reading, seconds)
        except asyncio.TimeoutError:
            if work is not None and work.seconds_left <= 0:
                raise too_long() from None
            raise RequestError(
                408, f"nothing came for {seconds:g} seconds: connect and send the request again", code="stalled"
            ) from None

    async def _write(self, event: Event) -> None:
        """Sends an event. Raises the reason to end where the client does not read, or has gone."""
        try:
            await asyncio.wait_for(async_write_event(event, self._writer), WRITE_SECONDS)
        except (ConnectionError, asyncio.TimeoutError):
            raise gone() from None
