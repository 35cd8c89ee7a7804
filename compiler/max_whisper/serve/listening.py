"""Addresses, and the sockets that listen at them."""

from __future__ import annotations

import os
import socket

from max_whisper.errors import UserError

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The addresses that stand for all of a machine, which no client can connect to, with one of them that it can."""
BACKLOG = 512
"""Connections that the system holds while the server is busy. asyncio listens once more, and must be told it."""

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
    return _url(scheme, *listener.getsockname()[:2])


def shown_address(listener: socket.socket, scheme: str, path: str = "") -> str:
    """Returns the URL at which clients of this machine reach a listening socket, and says if it listens everywhere.

    scheme: "http", for example. path: what stands behind the address.
    """
    host, port = listener.getsockname()[:2]
    instead = EVERYWHERE.get(host)
    return _url(scheme, instead or host, port) + path + (" (it listens at all addresses)" if instead else "")


def _url(scheme: str, host: str, port: int) -> str:
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
