"""Endpoints that compute: a request is admitted, worked on, and answered, and everything is given back after that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from max_whisper.serve.answers import answer_to, name_of, openai_error
from max_whisper.serve.connections import ABORT
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import gone
from max_whisper.serve.service import Service
from max_whisper.serve.work import Work, admitted

Handler: TypeAlias = Callable[[Request, Work], Awaitable[Response]]
"""Answers a request, with the work that it was admitted for. It may raise RequestError and other errors."""
ErrorForm: TypeAlias = Callable[[RequestError], Response]

GRACE_SECONDS = 10
"""The seconds that a client has to read the end of a stream after the time of its request is over."""
SEND_SECONDS = 30.0
"""The seconds after which a client that does not read a part of its answer is given up."""
IDLE_SECONDS = 15.0
"""The seconds after which a stream without news sends a sign of life: proxies close connections without any."""
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""The headers of a stream: nginx would collect its parts."""


class Endpoint:
    """An ASGI application for one path whose requests compute.

    It is no function that takes a request and returns a response: what a request holds (its place among those that are
    worked on, its file, its model) is given back before the response, and after the last byte of a stream.
    """

    def __init__(self, service: Service, handler: Handler, error_form: ErrorForm = openai_error) -> None:
        """Makes the application of a path. error_form: writes an error."""
        self._service = service
        self._handler = handler
        self._error_form = error_form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request. One whose client has gone ends silently."""
        with contextlib.suppress(ClientDisconnect):
            await self._respond(scope, receive, _Patient(scope, send))

    async def _respond(self, scope: Scope, receive: Receive, send: _Patient) -> None:
        try:
            async with admitted(self._service, name_of(scope), lambda: _disconnected(receive)) as work:
                response = await self._answer(Request(scope, receive), work)
                if isinstance(response, StreamingResponse):
                    try:
                        await asyncio.wait_for(response(scope, receive, send), work.seconds_left + GRACE_SECONDS)
                    except asyncio.TimeoutError:  # it was read, but too slowly
                        await send.give_up()
                    finally:
                        if isinstance(response.body_iterator, AsyncGenerator):
                            await response.body_iterator.aclose()
                    return
        except RequestError as error:  # there was no place for it
            response = self._error_form(error)
        await response(scope, receive, send)

    async def _answer(self, request: Request, work: Work) -> Response:
        """Returns the response to a request, which is that of an error where the handler raises one."""
        try:
            return await self._handler(request, work)
        except ClientDisconnect:  # in the middle of its upload
            work.job.cancel(gone)
            raise
        except Exception as error:
            return self._error_form(answer_to(error, work.job.name))


class _Patient:
    """Sends an answer to a client, and ends the connection where that does not read it for too long."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._abort: Callable[[], None] = scope.get("extensions", {}).get(ABORT, lambda: None)

    async def __call__(self, message: Message) -> None:
        """Sends a part. Raises ClientDisconnect where the client does not take it."""
        try:
            await asyncio.wait_for(self._send(message), SEND_SECONDS)
        except asyncio.TimeoutError:
            await self.give_up()

    async def give_up(self) -> None:
        """Ends the connection, and raises ClientDisconnect."""
        self._abort()
        await asyncio.sleep(0.01)  # until the server knows that it is lost
        raise ClientDisconnect from None


async def _disconnected(receive: Receive) -> None:
    """Returns when the client has closed its connection. The body of the request must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
