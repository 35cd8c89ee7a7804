"""A peer's own server as a process, for those of which users run one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType

TIMEOUT = 120
"""The seconds in which a server must have loaded its model, and in which it must answer at the end."""
HOST = "127.0.0.1"


def free_port() -> int:
    """Returns a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server at 127.0.0.1 that runs in a `with` block; what it prints goes to stderr.

    It ends too when this process is told to, by SIGTERM.
    """

    def __init__(self, command: Sequence[str], port: int) -> None:
        self._command, self._port = command, port

    def __enter__(self) -> Server:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        self._process = subprocess.Popen(self._command, stdout=sys.stderr, stdin=subprocess.DEVNULL)
        until = time.monotonic() + TIMEOUT
        while True:
            try:
                socket.create_connection((HOST, self._port), timeout=1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.__exit__(None, None, None)
                    raise SystemExit(f"The server did not come up: {' '.join(self._command)[:200]}") from None
                time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid
