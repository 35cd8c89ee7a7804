"""Speaks HTTP over bare sockets: a client that cuts an upload, reads slowly or vanishes needs the socket itself."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BOUNDARY = "benchmark-7d1f0b5c"
TIMEOUT = 180.0  # seconds for one exchange; after that an answer counts as lost
SLOW_BYTES, SLOW_PAUSE = 24, 0.05
"""A slow reader takes so many bytes, and then rests for so many seconds."""


class Lost(Exception):
    """No complete answer came; the message says why."""


@dataclass(frozen=True)
class Reply:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Returns the body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def get(path: str) -> bytes:
    """Returns the bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()


def post(path: str, body: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}") -> bytes:
    """Returns the bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def form(fields: Mapping[str, str], name: str = "", content: bytes = b"") -> bytes:
    """Returns a body with fields, and with a file if it has a name."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    if name:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content + b"\r\n")
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


async def ask(port: int, request: bytes, *, slowly: bool = False) -> Reply:
    """Sends a request on a connection of its own and returns the answer. Raises Lost where none comes."""
    try:
        return parse(await asyncio.wait_for(_exchange(port, request, slowly), TIMEOUT))
    except asyncio.TimeoutError:
        raise Lost(f"no answer in {TIMEOUT:g} s") from None
    except OSError as error:
        raise Lost(f"{type(error).__name__}: {error}") from None


async def vanish(port: int, sent: bytes, seconds: float, reset: bool) -> None:
    """Sends what there is of a request, waits, and closes the connection without reading.

    reset: whether the connection is reset, as the system does it for a killed process that has not read everything.
    """
    try:
        _, writer = await _connect(port, slowly=False)
    except OSError:
        return
    try:
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(seconds)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    except OSError:
        pass
    finally:
        writer.transport.abort()


def parse(data: bytes) -> Reply:
    """Returns the answer in the bytes of a connection. Raises Lost where it is not complete."""
    head, found, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not found or not lines[0].startswith("HTTP/1."):
        raise Lost(f"the connection was closed after {len(data)} bytes")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = _without_chunks(body)
    elif len(body) != int(headers.get("content-length", len(body))):
        raise Lost(f"{len(body)} of {headers['content-length']} bytes of the answer came")
    return Reply(int(lines[0].split()[1]), headers, body)


def _without_chunks(data: bytes) -> bytes:
    parts, size = [], -1
    while size:
        line, found, data = data.partition(b"\r\n")
        if not found:
            raise Lost("the answer ends in the middle")
        size = int(line, 16)
        if len(data) < size + 2:
            raise Lost("the answer ends in the middle")
        parts.append(data[:size])
        data = data[size + 2 :]
    return b"".join(parts)


async def _connect(port: int, slowly: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket()
    if slowly:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return await asyncio.open_connection(sock=sock, limit=1024 if slowly else 1 << 20)


async def _exchange(port: int, request: bytes, slowly: bool) -> bytes:
    reader, writer = await _connect(port, slowly)
    data = bytearray()
    try:
        writer.write(request)
        while chunk := await reader.read(SLOW_BYTES if slowly else 1 << 16):
            data += chunk
            if slowly:
                await asyncio.sleep(SLOW_PAUSE)
    except ConnectionError:
        if not data:
            raise
    finally:
        writer.transport.abort()
    return bytes(data)
