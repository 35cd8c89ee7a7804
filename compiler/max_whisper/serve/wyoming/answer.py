"""The events of an answer: the text of a request, as it becomes known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.event import Event

from max_whisper.serve.jobs import gone
from max_whisper.serve.work import Work

Give = Callable[[Event], None]


class Answer:
    """Gives the events of an answer in their order: `transcript-start`, chunks, `transcript` and `transcript-stop`.

    Clients that do not know the others read `transcript` alone.

    Attributes:
        text: The chunks so far, joined.
    """

    def __init__(self, give: Give) -> None:
        """Makes one of which nothing is known. give: takes each event."""
        self.text = ""
        self._give = give
        self._has_begun = False

    def add(self, chunk: str, language: str | None) -> None:
        """Gives the next part of the text, which may be empty. No part of it can be taken back."""
        if not self._has_begun:
            self._has_begun = True
            self._give(TranscriptStart(language=language).event())
        if chunk:
            self._give(TranscriptChunk(chunk).event())
            self.text += chunk

    def end(self, text: str, language: str | None) -> None:
        """Gives the whole text, whose chunks were given."""
        self.add("", language)
        self._give(Transcript(text, language=language).event())
        self._give(TranscriptStop().event())


async def answer(work: Work, transcribe: Callable[[Give], None]) -> AsyncGenerator[Event, None]:
    """Yields what a function gives that transcribes a request, in a thread, until the client has gone."""
    watching = asyncio.ensure_future(_cancel_when_gone(work))
    try:
        async with aclosing(work.stream(transcribe)) as events:
            async for event in events:
                yield event
    finally:
        watching.cancel()


async def _cancel_when_gone(work: Work) -> None:
    await work.gone()
    work.job.cancel(gone)
