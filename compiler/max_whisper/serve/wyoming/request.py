"""A request: its sound is heard until audio-stop, and transcribed meanwhile, or after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import gone
from max_whisper.serve.live.inbox import Inbox
from max_whisper.serve.transcribing import Task
from max_whisper.serve.work import Work
from max_whisper.serve.wyoming.answer import Give, answer
from max_whisper.serve.wyoming.connection import Connection
from max_whisper.serve.wyoming.fields import Asked, read_asked
from max_whisper.serve.wyoming.frames import Head
from max_whisper.serve.wyoming.live import END, transcribe_live
from max_whisper.serve.wyoming.recorded import transcribe_recorded
from max_whisper.serve.wyoming.sound import Format, Sound, check_length, read_format

SOUND = ("audio-start", "audio-chunk")
"""The events with which a request begins."""


class Request:
    """A request of a client.

    It is transcribed while the sound comes, where a stream can take that, a place is free, and what it asks for is
    known. Else its sound is kept until it is complete.
    """

    def __init__(self, connection: Connection, work: Work, asked: Asked | None, hears_pauses: bool) -> None:
        """Takes what a request works with.

        asked: what it asks for; None where no `transcribe` has come yet. hears_pauses: whether there is a voice
        detector, without which a stream would tell nothing before the end of the sound.
        """
        self._connection = connection
        self._work = work
        self._asked = asked
        self._hears_pauses = hears_pauses
        self._format: Format | None = None
        self._size = 0  # the bytes of the sound so far
        self._fixed = False  # whether what it asks for was known when the sound began

    async def answer(self, first: Head) -> None:
        """Hears the sound, one of whose events is the first, and sends the text. Raises the reason of another end."""
        await self._task()  # loads the model while somebody speaks
        async with aclosing(self._sound(first)) as sound:
            piece = await anext(sound, b"")
            if self._format is None or not piece:
                await self._connection.write_nothing()
            elif self._can_be_live(self._format):
                await self._live(self._format, piece, sound)
            else:
                await self._recorded(self._format, piece, sound)

    def _can_be_live(self, format: Format) -> bool:
        return self._hears_pauses and self._fixed and format.is_plain and self._work.service.places.has_room

    async def _live(self, format: Format, piece: bytes, sound: AsyncGenerator[bytes, None]) -> None:
        work, inbox = self._work, Inbox[bytes](self._work.job)
        work.held.enter_context(work.service.places.taken())
        asked, task = self._asked or Asked(), await self._task()
        transcribe = partial(transcribe_live, task, format.rate, asked, inbox)
        both = [asyncio.ensure_future(doing) for doing in (self._hear(piece, sound, inbox), self._send(transcribe))]
        try:
            await asyncio.gather(*both)
        finally:
            for one in both:
                one.cancel()
            await asyncio.wait(both)
            inbox.close()

    async def _hear(self, piece: bytes, sound: AsyncGenerator[bytes, None], inbox: Inbox[bytes]) -> None:
        """Hands the sound to the thread that transcribes it, whose work is cancelled where there is an error in it."""
        try:
            await inbox.put(piece)
            async for more in sound:
                await inbox.put(more)
            await inbox.put(END)
        except RequestError as error:
            self._work.job.cancel(partial(RequestError, error.status, str(error), kind=error.kind, code=error.code))
            raise

    async def _recorded(self, format: Format, piece: bytes, sound: AsyncGenerator[bytes, None]) -> None:
        kept = Sound(format)
        self._work.held.callback(kept.close)
        await kept.write(piece)
        async for more in sound:
            await kept.write(more)
        asked, task = self._asked or Asked(), await self._task()
        await self._send(partial(transcribe_recorded, task, kept, asked))

    async def _send(self, transcribe: Callable[[Give], None]) -> None:
        """Runs a function in the request's thread, and sends the events that it gives."""
        async with aclosing(answer(self._work, transcribe)) as events:
            async for event in events:
                await self._connection.write(event)

    async def _task(self) -> Task:
        entry = self._work.service.pool.entry(None if self._asked is None else self._asked.model)
        return Task(self._work, entry, await self._work.model(entry))

    async def _sound(self, first: Head) -> AsyncGenerator[bytes, None]:
        """Yields the sound as it comes, until `audio-stop`; other events are answered meanwhile."""
        head: Head | None = first
        with self._connection.interrupted(self._work):
            while head is not None:
                if head.type in SOUND:
                    self._take_format(head)
                if head.type == "audio-chunk":
                    async for piece in self._pieces(head):
                        yield piece
                else:
                    await self._connection.skip_payload(head)
                if head.type == "audio-stop":
                    return
                if head.type == "transcribe":
                    self._ask(read_asked(head.data))
                else:
                    await self._connection.answer_other(head)
                head = await self._connection.head(self._work)
        raise gone()

    async def _pieces(self, head: Head) -> AsyncGenerator[bytes, None]:
        """Yields the bytes of a chunk of the sound."""
        assert self._format is not None
        check_length(self._size + head.payload, self._format, self._work.service.options)
        left = head.payload
        if left and not self._size:
            self._fixed = self._asked is not None
        while left:
            piece = await self._connection.piece(left, self._work)
            self._work.uploaded.take(len(piece))
            self._size += len(piece)
            left -= len(piece)
            yield piece

    def _take_format(self, head: Head) -> None:
        """Notes the format of an event. That of chunks counts, and must stay the same."""
        format = read_format(head.data)
        if self._size and format != self._format:
            raise RequestError(
                400, f"the sound changed from {self._format} to {format}: send audio-stop before", code="bad_event"
            )
        self._format = format

    def _ask(self, asked: Asked) -> None:
        """Notes what is asked for, also behind the sound; but what was asked before that cannot be changed."""
        if self._fixed and asked != self._asked:
            raise RequestError(
                400, "a second transcribe came in the middle of the sound: send audio-stop before", code="bad_event"
            )
        self._asked = asked
