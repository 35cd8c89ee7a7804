"""Listens, serves until a signal comes, and stops without losing answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.serve.connections import SPARE_CONNECTIONS, WebSockets, protocol_class
from max_whisper.serve.listening import BACKLOG
from max_whisper.serve.service import Service

SAME_SECONDS = 0.1
"""A second signal within this time counts as the first one, as in cli/interrupts.py."""
CLOSE_SECONDS = 10
"""The seconds that clients have to read their answers, after the last request has ended or was cancelled."""

MAX_MESSAGE = (20 << 20) + (64 << 10)
"""The largest message by WebSocket, in bytes: OpenAI allows 15 MiB of sound, a third more in base64."""
PING_SECONDS = 20.0
"""The seconds between two pings of a WebSocket."""


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`: uvicorn's own handlers raise them again, and the exit code tells it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts. Raises MaxWhisperError where the application does not; uvicorn would end the process, or return."""
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
        if self.should_exit and not self.started:
            raise MaxWhisperError("the server could not start: what it wrote before this says why")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing."""
        yield


def serve(
    app: ASGIApp,
    service: Service,
    listener: socket.socket,
    *,
    certfile: str | None = None,
    keyfile: str | None = None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGINT or SIGTERM, and then until running requests have ended, or their time to do so is over.

    A second signal ends the process at once.

    Args:
        app: The application.
        service: What it shares.
        listener: The socket, from `listen`.
        certfile: The file of the certificates for TLS; None serves plain HTTP.
        keyfile: The file of their private key; None where it is in `certfile`.
        started: Called when connections are answered.

    Raises:
        UserError: The certificates cannot be read.
        MaxWhisperError: The application does not start.
    """
    config = uvicorn.Config(
        app,
        http=protocol_class(service.options.max_requests + SPARE_CONNECTIONS),
        ws=WebSockets,
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # base64 of sound does not become much smaller
        # It keeps proxies from closing the connection. Who is gone, the socket tells; no answer is waited for, as a
        # client that sends faster than it is heard is not read meanwhile.
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=None,
        log_config=None,
        log_level="error",  # a stranger's broken request is no news
        access_log=False,
        server_header=False,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
        ssl_keyfile_password=" ",  # without one, OpenSSL asks for it at the terminal; keys without a password need none
        timeout_graceful_shutdown=CLOSE_SECONDS,
        backlog=BACKLOG,
    )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a broken form is no news either
    try:
        config.load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = f"--ssl-certfile {certfile}" + (f", --ssl-keyfile {keyfile}" if keyfile else "")
        raise UserError(
            f"{files}: the certificate cannot be used ({getattr(error, 'strerror', None) or error}): give PEM files "
            "with a certificate and its private key, which needs no password"
        ) from error
    asyncio.run(_serve(_Server(config), service, listener, started))


async def _serve(
    server: uvicorn.Server, service: Service, listener: socket.socket, started: Callable[[], None]
) -> None:
    loop, first = asyncio.get_running_loop(), 0.0
    stops: list[asyncio.Task[None]] = []

    async def stop() -> None:
        await service.stop()
        server.should_exit = True

    def handle(number: signal.Signals) -> None:
        nonlocal first
        now = time.monotonic()
        if not stops:
            first = now
            stops.append(asyncio.ensure_future(stop()))
        elif now - first > SAME_SECONDS:
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, handle, number)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if server.started:
        started()
    await serving
