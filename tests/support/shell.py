"""A shell with job control, in a terminal of its own: Ctrl-Z stops the command, and the shell goes on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from support.screens import Emulator
from support.terminals import COLUMNS, terminal

PATIENCE = 120.0  # seconds
PROGRAM = """
import fcntl, os, signal, subprocess, sys, termios

fcntl.ioctl(2, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, process_group=0)
while True:
    os.tcsetpgrp(2, command.pid)
    os.killpg(command.pid, signal.SIGCONT)
    _, status = os.waitpid(command.pid, os.WUNTRACED)
    os.tcsetpgrp(2, os.getpgrp())
    if not os.WIFSTOPPED(status):
        os.write(2, b"[ended %d]\\r\\n" % os.waitstatus_to_exitcode(status))
        break
    os.write(2, b"[stopped]\\r\\n")
    input()
"""
"""Runs a command in the foreground of its terminal, which is stderr, and goes on with it for each line of stdin."""


class Shell:
    """A shell that runs a command of `max-whisper`; a context that ends both."""

    def __init__(self, *arguments: str | os.PathLike[str], output: Path | None = None) -> None:
        """Starts it. output: the file that gets the standard output of the command; None is the terminal."""
        self._ours, theirs = terminal()
        self._content = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        stdout = theirs if output is None else os.open(output, os.O_WRONLY | os.O_CREAT)
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, sys.executable, "-m", "max_whisper", *map(os.fspath, arguments)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )
        for end in {theirs, stdout}:
            os.close(end)
        self._reader.start()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.kill()  # which hangs up the terminal of the command, too
        self._process.wait()
        self._process.stdin.close()
        self._reader.join(PATIENCE)

    @property
    def written(self) -> str:
        """What was written to the terminal so far."""
        return self._content.decode(errors="replace")

    def screen(self) -> Emulator:
        """Returns the terminal."""
        emulator = Emulator(COLUMNS)
        emulator.write(self.written)
        return emulator

    def wait_for(self, text: str) -> None:
        """Waits until a text was written."""
        until = time.monotonic() + PATIENCE
        while text not in self.written:
            goes_on = time.monotonic() < until and self._reader.is_alive()
            assert goes_on or text in self.written, self.written
            time.sleep(0.02)

    def type(self, keys: str) -> None:
        """Types keys in the terminal."""
        os.write(self._ours, keys.encode())

    def resume(self) -> None:
        """Says `fg`."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"fg\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # so a terminal says that nobody writes any more
            while chunk := os.read(self._ours, 1 << 16):
                self._content.extend(chunk)
        os.close(self._ours)
