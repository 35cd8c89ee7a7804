"""One connection of a Wyoming client: any number of requests, one after the other."""

from __future__ import annotations

import time

from max_whisper.serve.answers import answer_to
from max_whisper.serve.errors import request_error
from max_whisper.serve.jobs import gone
from max_whisper.serve.service import Service
from max_whisper.serve.work import Gone, admitted
from max_whisper.serve.wyoming.connection import Connection
from max_whisper.serve.wyoming.fields import Asked, read_asked
from max_whisper.serve.wyoming.frames import Head
from max_whisper.serve.wyoming.request import SOUND, Request

PROTOCOL = "wyoming"
"""The name for metrics, in the place of a path."""


class Session:
    """Answers the events of a connection in their order.

    An error ends the connection after it was sent as an event: Home Assistant does not know that event, and would wait
    for a transcript until its user gives up.

    Attributes:
        busy: Whether it works on a request, or says why it does not.
    """

    def __init__(self, service: Service, connection: Connection, closed: Gone, hears_pauses: bool) -> None:
        """Takes a connection.

        closed: waits until the client has closed it. hears_pauses: whether there is a voice detector.
        """
        self._service = service
        self._connection = connection
        self._closed = closed
        self._hears_pauses = hears_pauses
        self.busy = False

    async def run(self) -> None:
        """Answers events until the client closes the connection, or does something that ends it."""
        try:
            await self._answer_all()
        except Exception as error:
            await self._refuse(error)
        finally:
            self._connection.close()

    async def _refuse(self, error: Exception) -> None:
        if isinstance(error, ConnectionError):
            return
        refusal = answer_to(error, PROTOCOL)
        if refusal.code != gone().code:
            await self._connection.refuse(refusal)

    async def _answer_all(self) -> None:
        connection, asked = self._connection, None  # no transcribe has come
        while head := await connection.head():
            if head.type in SOUND:
                self.busy = True
                await self._request(head, asked)
                self.busy, asked = False, None
                if self._service.stopping:
                    return
                continue
            await connection.skip_payload(head)
            if head.type == "audio-stop":  # nothing was heard, as where Home Assistant's microphone gives no sound
                await connection.write_nothing()
            elif head.type == "transcribe":
                asked = read_asked(head.data)
            else:
                await connection.answer_other(head)

    async def _request(self, first: Head, asked: Asked | None) -> None:
        """Answers a request, whose sound begins with an event. asked: what it asks for, as far as that is known."""
        service, status, began = self._service, 200, time.monotonic()
        try:
            async with admitted(service, PROTOCOL, self._closed) as work:
                await Request(self._connection, work, asked, self._hears_pauses).answer(first)
        except Exception as error:
            status = request_error(error).status
            raise
        finally:
            service.metrics.requests.labels(PROTOCOL, str(status)).inc()
            service.metrics.latency.labels(PROTOCOL).observe(time.monotonic() - began)
