"""The WebSocket at which sessions run: who gets one, what comes and goes, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from contextlib import aclosing

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from max_whisper.serve.answers import answer_to
from max_whisper.serve.connections import ABORT
from max_whisper.serve.errors import RequestError
from max_whisper.serve.http import SEND_SECONDS
from max_whisper.serve.jobs import gone, too_long
from max_whisper.serve.live.inbox import Inbox
from max_whisper.serve.realtime.config import first_config
from max_whisper.serve.realtime.endings import ended, over
from max_whisper.serve.realtime.events import Event, error_event
from max_whisper.serve.realtime.session import PATH, Session
from max_whisper.serve.service import Service
from max_whisper.serve.work import Work, admitted

SUBPROTOCOL = "realtime"
"""What browsers ask for, whose other subprotocols hold their key."""
POLICY, INTERNAL, LATER, LEAVING = 1008, 1011, 1013, 1001
CLOSE_CODES = {400: POLICY, 404: POLICY, 408: POLICY, 429: LATER, 503: LEAVING}
"""The codes with which the connection is closed after an error that ends the session, by HTTP's status."""


class Realtime:
    """The ASGI application for sessions."""

    def __init__(self, service: Service) -> None:
        """Takes what all protocols share."""
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs a session. Whatever ends it is told as an event, and the connection closed after that."""
        socket = WebSocket(scope, receive, send)
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None)
        connection, status, began = _Connection(socket), 200, time.monotonic()
        try:
            await self._run(connection)
        except Exception as error:
            refusal = answer_to(error, PATH)
            if refusal.code == too_long().code:
                refusal = over()
            if refusal.code not in (gone().code, ended().code):
                status = refusal.status
                await connection.refuse(refusal)
        finally:
            self._service.metrics.requests.labels(PATH, str(status)).inc()
            self._service.metrics.latency.labels(PATH).observe(time.monotonic() - began)

    async def _run(self, connection: _Connection) -> None:
        pool = self._service.pool
        config = first_config(pool.default.name, connection.socket.query_params)
        with self._service.places.taken():
            async with admitted(self._service, PATH, connection.closed) as work:
                inbox = Inbox[str](work.job)
                receiving = asyncio.ensure_future(connection.receive(inbox, work))
                session = Session(work, inbox, config, asyncio.get_running_loop())
                try:
                    async with aclosing(work.stream(session.run)) as events:
                        async for event in events:
                            await connection.send(event)
                finally:
                    receiving.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await receiving
                    inbox.close()


class _Connection:
    """A connection that was accepted.

    Attributes:
        socket: The WebSocket.
        gone: Whether the client has closed it.
    """

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.gone = asyncio.Event()
        self._abort: Callable[[], None] = socket.scope.get("extensions", {}).get(ABORT, lambda: None)

    async def closed(self) -> None:
        """Returns when the client has gone."""
        await self.gone.wait()

    async def receive(self, inbox: Inbox[str], work: Work) -> None:
        """Puts what comes into an inbox until the client goes."""
        with contextlib.suppress(RequestError):  # a client that does not read
            while (message := await self.socket.receive())["type"] == "websocket.receive":
                if (text := message.get("text")) is not None:
                    await inbox.put(text)
                else:
                    what = "the message has bytes: send events as text, and sound as base64 in them"
                    await self.send(error_event(RequestError(400, what, code="no_text")))
        self.gone.set()
        work.job.cancel(ended)

    async def send(self, event: Event) -> None:
        """Sends an event. Raises the reason to end where the client does not read it, or has gone."""
        try:
            text = json.dumps(event)
            await asyncio.wait_for(self.socket.send({"type": "websocket.send", "text": text}), SEND_SECONDS)
        except asyncio.TimeoutError:
            self.gone.set()
            self._abort()
            raise gone() from None
        except Exception:  # uvicorn's and Starlette's own for a connection that is lost
            self.gone.set()
            raise gone() from None

    async def refuse(self, error: RequestError) -> None:
        """Tells the error that ends the session, and closes the connection."""
        with contextlib.suppress(Exception):
            await self.send(error_event(error))
            close = self.socket.close(CLOSE_CODES.get(error.status, INTERNAL), error.code or "")
            await asyncio.wait_for(close, SEND_SECONDS)
