"""Parts of a server in the process of the test, in an event loop that a test has for itself."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from max_whisper.serve import work
from max_whisper.serve.listening import listen
from max_whisper.serve.metrics import Metrics
from max_whisper.serve.options import ServeOptions
from max_whisper.serve.pool import ModelPool
from max_whisper.serve.service import Service
from support.server import PATIENCE

with warnings.catch_warnings():  # wyoming imports audioop, which Python is about to lose
    warnings.simplefilter("ignore", DeprecationWarning)
    from max_whisper.serve.wyoming.server import wyoming_server


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a test in an event loop, for a bounded time."""
    asyncio.run(asyncio.wait_for(coroutine, 2 * PATIENCE))


async def until(condition: Callable[[], object]) -> None:
    """Waits until a function returns something true; fails after a while."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def forever() -> None:
    """Never returns."""
    await asyncio.Event().wait()


def service_of(folders: dict[str, Path] | None = None, **options: Any) -> Service:
    """Returns what protocols share, for the models of some folders."""
    metrics = Metrics()
    return Service(ServeOptions(**options), ModelPool(folders or {}, None, metrics.model_changed), metrics)


@asynccontextmanager
async def admitted(folders: dict[str, Path] | None = None, **options: Any) -> AsyncIterator[work.Work]:
    """Yields the work of a request whose client stays."""
    service = service_of(folders, **options)
    try:
        async with work.admitted(service, "test", forever) as admission:
            yield admission
    finally:
        service.close()


@asynccontextmanager
async def by_wyoming(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yields a connection to a server that speaks Wyoming."""
    with listen("127.0.0.1", 0) as listener:
        async with wyoming_server(service, listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            yield reader, writer
            writer.close()


def most_waiting(listener: socket.socket) -> int:
    """Returns how many connections the system holds for a socket that listens: `tcpi_sacked` of its tcp_info."""
    return struct.unpack("8B6I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32))[13]
