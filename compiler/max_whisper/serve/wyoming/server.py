"""Listens for Wyoming clients beside the HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wyoming.error import Error
from wyoming.event import Event

from max_whisper.runtime.vad.cached import is_cached
from max_whisper.serve.listening import BACKLOG
from max_whisper.serve.service import Service
from max_whisper.serve.wyoming.connection import Connection
from max_whisper.serve.wyoming.frames import MAX_LINE
from max_whisper.serve.wyoming.info import info_event
from max_whisper.serve.wyoming.session import Session

SPARE_CONNECTIONS = 64
"""The connections that may be open besides one for each request that the server takes."""
LOOK_SECONDS = 1.0
"""The seconds between two looks at whether a client is there of which nothing is read."""
CLOSE_SECONDS = 3.0
"""The seconds that clients have to read their errors when the server stops."""


@asynccontextmanager
async def wyoming_server(service: Service, listener: socket.socket) -> AsyncIterator[None]:
    """Answers Wyoming clients for the time of a block, after which all connections are closed.

    Where the voice detector is not in the user's cache now, sound is transcribed when it is complete: no request waits
    for half a minute until the detector is compiled.
    """
    connections = _Connections(service, info_event(service.pool), hears_pauses=is_cached())
    server = await asyncio.get_running_loop().create_server(connections.protocol, sock=listener, backlog=BACKLOG)
    try:
        yield
    finally:
        server.close()
        await connections.close()


class _Protocol(asyncio.StreamReaderProtocol):
    """Streams of a connection, and a note of when the client closes it, which streams tell only to those who read."""

    def __init__(self, connections: _Connections) -> None:
        self.gone = asyncio.Event()
        reader = asyncio.StreamReader(MAX_LINE)
        super().__init__(reader, lambda reader, writer: connections.open(reader, writer, self))

    def eof_received(self) -> bool | None:
        """Notes that the client sends no more, which is how it leaves: no client of this protocol goes on to read."""
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that the connection is gone."""
        self.gone.set()
        super().connection_lost(exc)


class _Connections:
    """The open connections."""

    def __init__(self, service: Service, info: Event, hears_pauses: bool) -> None:
        self._service = service
        self._info = info
        self._hears_pauses = hears_pauses
        self._most = service.options.max_requests + SPARE_CONNECTIONS
        self._sessions: dict[asyncio.Task[None], Session] = {}

    def protocol(self) -> asyncio.Protocol:
        """Returns the protocol of a new connection."""
        return _Protocol(self)

    def open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: _Protocol) -> None:
        """Begins to answer the events of a connection, or closes it where there are too many."""

        async def closed() -> None:
            while not protocol.gone.is_set() and not _is_closed(writer.get_extra_info("socket")):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(protocol.gone.wait(), LOOK_SECONDS)

        if len(self._sessions) >= self._most:
            message = f"there are {self._most} connections already: connect again when others are closed"
            writer.writelines(_lines(Error(message, "too_many_connections").event()))
            writer.close()
            return
        session = Session(self._service, Connection(self._info, reader, writer), closed, self._hears_pauses)
        task = asyncio.ensure_future(session.run())
        self._sessions[task] = session
        task.add_done_callback(self._sessions.pop)

    async def close(self) -> None:
        """Closes all connections, and returns when the work for them has ended.

        The work was cancelled before, if it had not ended, so that there are only errors left to be sent.
        """
        idle = [task for task, session in self._sessions.items() if not session.busy]
        busy = [task for task, session in self._sessions.items() if session.busy]
        for task in idle:
            task.cancel()
        if busy:
            await asyncio.wait(busy, timeout=CLOSE_SECONDS)
        for task in busy:
            task.cancel()
        await asyncio.gather(*idle, *busy, return_exceptions=True)


def _is_closed(connection: socket.socket) -> bool:
    """Returns whether the client has closed a connection, also where nothing is read of it.

    A client that sends its next request before it has an answer fills the stream, which then no longer reads.
    """
    look = select.poll()
    look.register(connection, select.POLLRDHUP)
    return bool(look.poll(0))


def _lines(event: Event) -> list[bytes]:
    """Returns a small event as it is sent."""
    return [json.dumps(event.to_dict()).encode(), b"\n"]
