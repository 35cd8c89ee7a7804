"""Sends requests in parts, which clients do not do by themselves: the rest of one that is withheld holds it open."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from support.server import Server

BOUNDARY = "boundary"
SECONDS = 120


def form(content: bytes, **fields: str) -> bytes:
    """Returns a form with a file."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
    return b"".join(parts) + head + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def connection(running: Server) -> Iterator[http.client.HTTPConnection]:
    """Yields a connection, closed at the end of the block."""
    parts = urlsplit(running.url)
    assert parts.hostname
    opened = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
    try:
        yield opened
    finally:
        opened.close()


def begin(opened: http.client.HTTPConnection, body: bytes, announced: int | None = None) -> None:
    """Sends a request with a body, of which the head may announce more than is sent."""
    opened.putrequest("POST", "/v1/audio/transcriptions")
    opened.putheader("content-type", f"multipart/form-data; boundary={BOUNDARY}")
    opened.putheader("content-length", str(len(body) if announced is None else announced))
    opened.endheaders()
    opened.send(body)


def answer(opened: http.client.HTTPConnection) -> tuple[int, dict[str, object], http.client.HTTPResponse]:
    """Returns the status, the error and the response of a request that was begun."""
    response = opened.getresponse()
    return response.status, json.loads(response.read())["error"], response
