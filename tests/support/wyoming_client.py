"""Talks to a server by Wyoming, with the client of wyoming's own package."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

with warnings.catch_warnings():  # it imports audioop, which Python is about to lose
    warnings.simplefilter("ignore", DeprecationWarning)
    from wyoming.asr import Transcribe
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.event import Event

from support.server import Server

Result = TypeVar("Result")
ADDRESS = re.compile(r"by Wyoming at tcp://([^:]+):(\d+)")
PIECE = 2048
SECONDS = 60


def address(running: Server) -> tuple[str, int]:
    """Returns the host and the port at which a server speaks Wyoming."""
    match = next(found for line in running.lines if (found := ADDRESS.search(line)))
    return match[1], int(match[2])


@asynccontextmanager
async def connected(running: Server) -> AsyncIterator[AsyncTcpClient]:
    """Yields a client that is connected."""
    async with AsyncTcpClient(*address(running), connect_timeout=10, read_timeout=SECONDS) as client:
        yield client


async def speak(client: AsyncTcpClient, pcm: bytes, rate: int = 16000, width: int = 2, channels: int = 1) -> None:
    """Sends a part of the sound of a request."""
    for start in range(0, len(pcm), PIECE):
        await client.write_event(AudioChunk(rate, width, channels, pcm[start : start + PIECE]).event())


async def begin(client: AsyncTcpClient, *format: int, **asked: object) -> None:
    """Sends what comes before the sound of a request, as Home Assistant does."""
    await client.write_event(Transcribe(**asked).event())
    await client.write_event(AudioStart(*(format or (16000, 2, 1))).event())


async def say(client: AsyncTcpClient, pcm: bytes, *format: int, **asked: object) -> None:
    """Sends a request, as Home Assistant does."""
    await begin(client, *format, **asked)
    await speak(client, pcm, *format)
    await client.write_event(AudioStop().event())


async def say_late(client: AsyncTcpClient, pcm: bytes, *format: int, **asked: object) -> None:
    """Sends a request that says behind its sound what it asks for: it is transcribed when the sound is complete."""
    await speak(client, pcm, *format)
    await client.write_event(Transcribe(**asked).event())
    await client.write_event(AudioStop().event())


async def listen(client: AsyncTcpClient) -> list[Event]:
    """Returns the events of an answer, until its end, or an error, or the end of the connection."""
    events: list[Event] = []
    while event := await client.read_event():
        events.append(event)
        if event.type in ("transcript-stop", "error"):
            break
    return events


async def transcript(client: AsyncTcpClient) -> str:
    """Returns the transcript of an answer, or the text of the error."""
    return next(event.data["text"] for event in await listen(client) if event.type in ("transcript", "error"))


async def ask(client: AsyncTcpClient, pcm: bytes, *format: int, **asked: object) -> str:
    """Returns the transcript of a request, or the text of the error."""
    await say(client, pcm, *format, **asked)
    return await transcript(client)


async def ask_late(client: AsyncTcpClient, pcm: bytes, *format: int, **asked: object) -> str:
    """Returns the transcript of a request, as `say_late` sends it, or the text of the error."""
    await say_late(client, pcm, *format, **asked)
    return await transcript(client)


def with_client(running: Server, talk: Callable[[AsyncTcpClient], Awaitable[Result]]) -> Result:
    """Returns what a function returns that talks to a server as a client."""

    async def run() -> Result:
        async with connected(running) as client:
            return await talk(client)

    return asyncio.run(asyncio.wait_for(run(), SECONDS))


def answers_to(running: Server, data: bytes, *, close: bool = True) -> list[dict[str, object]]:
    """Sends bytes, and returns the events that come before the server closes the connection.

    close: whether to say that there are no more bytes, for what is no complete event.
    """
    with socket.create_connection(address(running), timeout=SECONDS) as plain:
        try:
            plain.sendall(data)
            if close:
                plain.shutdown(socket.SHUT_WR)
        except OSError:  # it was closed before it had all
            pass
        received = bytearray()
        try:
            while more := plain.recv(1 << 16):
                received += more
        except ConnectionError:
            pass
    return events_of(bytes(received))


def events_of(received: bytes) -> list[dict[str, object]]:
    """Returns events, with their data merged; the last may be cut off, and is left out then."""
    events = []
    while b"\n" in received:
        line, _, received = received.partition(b"\n")
        event = json.loads(line)
        length = event.get("data_length", 0)
        if len(received) < length:
            break
        event["data"] = {**event.get("data", {}), **(json.loads(received[:length]) if length else {})}
        received = received[length:]
        events.append(event)
    return events
