"""Listens, serves until a signal comes, and stops without losing answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from max_whisper.errors import UserError
from max_whisper.serve.service import Service

BACKLOG = 512
"""Connections that the system holds while the server is busy with others."""
SAME_SECONDS = 0.1
"""A second signal within this time counts as the first one, as in cli/interrupts.py."""
CLOSE_SECONDS = 10
"""The seconds that clients have to read their answers, after the last request has ended or was cancelled."""


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens. Raises UserError where the address cannot be had.

    host: a name or an address. port: a number; 0 takes any that is free.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: this address cannot be listened at ({reason}): give another port, 0 for any "
            "that is free, or an address of this machine"
        ) from error


def address_of(listener: socket.socket, secure: bool) -> str:
    """Returns the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http{'s' if secure else ''}://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`: uvicorn's own handlers raise them again, and the exit code tells it."""

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
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_config=None,
        log_level="error",  # a stranger's broken request is no news
        access_log=False,
        server_header=False,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UserError(
            f"--ssl-certfile {certfile}, --ssl-keyfile {keyfile}: the certificate cannot be used "
            f"({getattr(error, 'strerror', None) or error}): give both as PEM files that belong together"
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
