"""Connections by HTTP: only so many at once, and none for a client that sends no request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SPARE_CONNECTIONS = 128
"""The connections that may be open besides one for each request that the server takes: pages and watchers have some."""
HEAD_SECONDS = 30.0
"""The seconds that a client has to send the head of a request."""
ABORT = "max_whisper.abort"
"""The extension of a scope with the function that ends its connection without sending what is left."""


def protocol_class(most: int) -> type[asyncio.Protocol]:
    """Returns the protocol of a server with at most so many connections; one more is told so, and closed."""
    return type("BoundedProtocol", (_Protocol,), {"most": most})


def _with_abort(app: ASGIApp, abort: Callable[[], None]) -> ASGIApp:
    """Returns an application that can end its connection at once, by what its scope has as the extension ABORT."""

    async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[ABORT] = abort
        await app(scope, receive, send)

    return with_abort


class _Protocol(H11Protocol):
    """uvicorn's protocol with a bound on connections, and on the time for a head, which uvicorn has not."""

    most = 0
    _head: asyncio.TimerHandle | None = None
    _upgraded = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app = _with_abort(self.app, lambda: self.transport.abort())

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Notes a connection, or refuses it."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.write(_refusal(self.most))
            transport.close()
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Takes what a client has sent."""
        super().data_received(data)
        self._watch_head()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Gives a connection over to the protocol of WebSockets."""
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that a connection is gone."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        """Gives the client some seconds for the head of its request, from the first look until it is there."""
        if self._upgraded or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_watching()
        elif self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD_SECONDS, self._end)

    def _end(self) -> None:
        self._head = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def _stop_watching(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's protocol for WebSockets, whose applications can end a connection without sending what is left."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app = _with_abort(self.app, lambda: self.transport.abort())

    def send_receive_event_to_app(self) -> None:
        """Passes a message on. One that is no text is refused here, because uvicorn logs where it comes from."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()


def _refusal(most: int) -> bytes:
    """Returns the answer to one connection too many, for which no application runs."""
    message = f"there are {most} connections already: connect again when others are closed"
    error = {"message": message, "type": "rate_limit_error", "param": None, "code": "too_many_connections"}
    body = json.dumps({"error": error}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
