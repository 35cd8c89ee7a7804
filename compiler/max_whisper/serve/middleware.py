"""What happens around every request: an id, metrics, who may ask, and an answer whatever goes wrong."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import time
from collections.abc import Callable, Collection
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from max_whisper.messages import printable
from max_whisper.serve.answers import REQUEST_ID, log_failure, name_of, openai_error
from max_whisper.serve.errors import RequestError, request_error
from max_whisper.serve.metrics import Metrics

OPEN_PATHS = ("/health", "/")
OPEN_PREFIX = "/page/"
"""The paths that need no key: what watches a server has none, and the page is what asks for it. They cost nothing, and
tell the names of the models and how many requests there are."""
KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""What stands before the key in a subprotocol, as OpenAI has it. Signs that a subprotocol cannot hold are written as in
addresses."""
MAX_DRAINED = 64 << 20
"""The most bytes of a refused upload that are read and thrown away, so that the client reads the answer."""
DRAIN_SECONDS = 5.0
QUIET_SECONDS = 0.5
"""The seconds without a byte after which the rest of a refused upload is no longer waited for."""


class Answering:
    """The outermost application: every answer gets an id, is counted and timed, and no exception goes beyond."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began, status = f"req_{uuid4().hex}", time.monotonic(), 0
        scope.setdefault("extensions", {})[REQUEST_ID] = request_id

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, answering)
        except ClientDisconnect:
            pass
        except Exception as error:
            log_failure(name_of(scope), error)
            if not status:
                await openai_error(request_error(error))(scope, receive, answering)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(path, str(status or 499)).inc()  # nobody was there to be answered
            self._metrics.latency.labels(path).observe(time.monotonic() - began)


class Draining:
    """Reads what is left of a request's body before it is answered, within bounds.

    A client that is refused early still sends. Where its connection is closed meanwhile, it gets an error of the
    connection in place of the answer. A request whose length is said in two ways is refused, because a proxy may end
    it elsewhere.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:  # RFC 9112, 6.1
            message = "the request has content-length and transfer-encoding, expected one of them"
            await openai_error(RequestError(400, message, headers={"connection": "close"}))(scope, receive, send)
            return
        # Who waits to be told to go on has sent nothing, and is not told: uvicorn says it where a body is read.
        unread = "100-continue" not in headers.get("expect", "").lower()

        async def noting(*_: object) -> Message:
            nonlocal unread
            message = await receive()
            unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def draining(message: Message) -> None:
            if unread and message["type"] == "http.response.start":
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(drain(), DRAIN_SECONDS)
            await send(message)

        async def drain() -> None:
            size = 0
            while unread and size < MAX_DRAINED:
                size += len((await asyncio.wait_for(noting(), QUIET_SECONDS)).get("body", b""))

        await self._app(scope, noting, draining)


class Access:
    """Lets only those in who have the key, and only those pages of browsers that are the server's own or allowed."""

    def __init__(
        self,
        app: ASGIApp,
        written: Callable[[str, RequestError], Response],
        api_key: str | None,
        origins: Collection[str],
        hosts: Collection[str] | None,
    ) -> None:
        """Makes the application around another.

        Args:
            app: The other one.
            written: Writes an error for the clients of an address.
            api_key: The key; None where none is asked for.
            origins: The other origins that are allowed.
            hosts: The server's own names; None for any.
        """
        self._app = app
        self._written = written
        self._key = None if api_key is None else api_key.encode()
        self._origins = origins
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        error = self._refusal(headers, scope["path"], scope["type"] == "websocket")
        if error is None:
            await self._app(scope, receive, send)
        else:
            await self._written(scope["path"], error)(scope, receive, send)

    def _has_key(self, headers: Headers, is_socket: bool) -> bool:
        """Returns whether a request has the key. A browser's WebSocket can send none but in a subprotocol."""
        assert self._key is not None
        given = [_key(headers)]
        for name in headers.get("sec-websocket-protocol", "").split(",") if is_socket else ():
            if name.strip().startswith(KEY_SUBPROTOCOL):
                text = name.strip().removeprefix(KEY_SUBPROTOCOL)
                given += [text.encode("latin-1"), unquote_to_bytes(text)]
        return any([hmac.compare_digest(key, self._key) for key in given])  # a list: the time tells nothing

    def _refusal(self, headers: Headers, path: str, is_socket: bool = False) -> RequestError | None:
        """Returns why a request is refused; None where it is not."""
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if host and self._hosts is not None and _without_port(host) not in self._hosts:
            # A page of somebody else's can make a name of its own stand for this machine (DNS rebinding): then the
            # browser takes the server for the page's own.
            return RequestError(
                403,
                f"this server is not called {printable(_without_port(host), 200)}: start it with --allow-host to allow "
                "that",
                kind="permission_error",
                code="host_not_allowed",
            )
        if origin and not {origin, "*"} & {*self._origins} and origin.partition("://")[2] != host:
            # A page of somebody else's can send forms to a server on this machine, even though it cannot read answers.
            return RequestError(
                403,
                f"pages of {printable(origin, 200)} may not use this server: start it with --cors-origin to allow that",
                kind="permission_error",
                code="origin_not_allowed",
            )
        is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIX)
        if self._key is None or is_open or self._has_key(headers, is_socket):
            return None
        return RequestError(
            401,
            "the API key is missing or wrong: send the one that the server was started with, as Authorization: Bearer "
            "KEY",
            param=None,
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )


def _without_port(host: str) -> str:
    """Returns the name of a `Host` header; an address of IPv6 keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return (name if colon and "]" not in port else host).rstrip(".")


def _key(headers: Headers) -> bytes:
    """Returns the key of a request: that of `Bearer KEY`, or the password of `Basic`, which addresses can hold."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value.encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
