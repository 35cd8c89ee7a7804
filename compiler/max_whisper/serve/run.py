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

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.serve.connections import SPARE_CONNECTIONS, WebSockets, protocol_class
from max_whisper.serve.service import Service

BACKLOG = 512
"""Connections that the system holds while the server is busy with others."""
SAME_SECONDS = 0.1
"""A second signal within this time counts as the first one, as in cli/interrupts.py."""
CLOSE_SECONDS = 10
"""The seconds that clients have to read their answers, after the last request has ended or was cancelled."""

MAX_MESSAGE = (20 << 20) + (64 << 10)
"""The largest message by WebSocket, in bytes: OpenAI allows 15 MiB of sound, a third more in base64."""
PING_SECONDS = 20.0
"""The seconds between two pings of a WebSocket."""
SILENT_SECONDS = 60
"""The seconds after which a client is given up that does not take what was sent, or is no longer there."""
SOCKET_OPTIONS = (
    # asyncio sets it for sockets that it makes itself: without it, the second of two small parts of an answer waits for
    # 40 ms.
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A client that vanishes without a word, while it waits for its answer, would keep its place until the time is over.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_SECONDS // 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENT_SECONDS // 6),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENT_SECONDS),
)
"""Those of every connection, which inherits them from the socket that listens."""


def listen(host: str, port: int, option: str = "") -> socket.socket:
    """Returns a socket that listens. Raises UserError where the address cannot be had.

    host: a name or an address. port: a number; 0 takes any that is free. option: what asked for them, for messages;
    empty for --host and --port.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        both = host == "::" and socket.has_dualstack_ipv6()  # every address, of the older kind as well
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
        for level, name, value in SOCKET_OPTIONS:
            listener.setsockopt(level, name, value)
        return listener
    except (OSError, UnicodeError) as error:
        asked = option or f"--host {host} --port {port}"
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        raise UserError(
            f"{asked}: this address cannot be listened at ({reason}): give another port, 0 for any that is free, or an "
            "address of this machine"
        ) from error


def address_of(listener: socket.socket, scheme: str) -> str:
    """Returns the URL of a listening socket. scheme: "http", for example."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def host_and_port(text: str, option: str) -> tuple[str, int]:
    """Returns the parts of [HOST:]PORT, where the host is 127.0.0.1 if there is none.

    option: its name, for messages. Raises UserError for anything else.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535) or (colon and not host):
        raise UserError(f"{option} {text}: expected [HOST:]PORT, as 10300 or 0.0.0.0:10300, with a port of 0 to 65535")
    return host or "127.0.0.1", int(port)


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
    )
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
