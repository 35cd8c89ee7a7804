"""Runs commands with every kind of standard stream: terminals, files, pipes, full disks, closed ones."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WRITABLE = ("pipe", "file", "terminal")
OUTPUTS = (*WRITABLE, "closed", "full", "gone", "read-only")
"""Of these, "full" is a full disk, "gone" a pipe whose reader has ended, "read-only" a file opened for reading."""
INPUTS = ("null", "closed", "terminal", "file")
ANSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
COLUMNS = 100


@dataclass(frozen=True)
class Seen:
    """The exit code and the output of a command; empty where a stream could not be written to.

    Warnings of invented text, which models with random weights always have, are left out of `said`.
    """

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> list[str]:
        """The lines of stderr, without what draws a progress bar."""
        lines = [ANSI.sub(b"", line) for line in re.split(rb"[\r\n]+", self.stderr)]
        return [
            line.decode()
            for line in lines
            if line.strip()
            and not any(mark in line for mark in (b"\xe2\x94\x81", b" ... ", b" probably invented, for example "))
        ]


def look(
    *arguments: str | os.PathLike[str],
    stdin: str = "null",
    stdout: str = "pipe",
    stderr: str = "pipe",
    sound: Path | None = None,
    environment: Mapping[str, str] | None = None,
    program: str | None = None,
    timeout: float = 120,
) -> Seen:
    """Runs `max-whisper` with streams of these kinds.

    `sound` is the file that stdin reads, if its kind is "file"; `program` is Python code to run instead.
    """
    with _Ends() as ends:
        redirections, descriptors = "", {}
        for name, kind in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if kind == "closed":
                redirections += {"stdin": " <&-", "stdout": " >&-", "stderr": " 2>&-"}[name]
                descriptors[name] = os.open(os.devnull, os.O_RDWR)
            else:
                descriptors[name] = ends.open(name, kind, sound)
        command = [sys.executable, *(["-m", "max_whisper"] if program is None else ["-c", program])]
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@"{redirections}', "sh", *command, *map(os.fspath, arguments)],
            env={**os.environ, "TERM": "xterm", **(environment or {})},
            start_new_session=True,
            **descriptors,
        )
        for descriptor in descriptors.values():
            os.close(descriptor)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return Seen(code, ends.read("stdout"), ends.read("stderr"))


class _Ends:
    """Keeps our ends of the streams."""

    def __enter__(self) -> _Ends:
        self._open: list[int] = []
        self._content: dict[str, bytearray] = {}
        self._readers: dict[str, threading.Thread] = {}
        self._files: dict[str, int] = {}
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def open(self, name: str, kind: str, sound: Path | None) -> int:
        """Returns the descriptor of the end that the command gets."""
        if name == "stdin" and kind == "file":
            assert sound is not None
            return os.open(sound, os.O_RDONLY)
        if kind == "null":
            return os.open(os.devnull, os.O_RDONLY)
        if kind == "full":
            return os.open("/dev/full", os.O_WRONLY)
        if kind == "read-only":
            return os.open(__file__, os.O_RDONLY)
        if kind == "file":
            descriptor = os.memfd_create(name)
            self._files[name] = self._keep(os.dup(descriptor))
            return descriptor
        if kind == "terminal":
            ours, theirs = terminal()
        else:
            ours, theirs = os.pipe()
        if kind == "gone":
            os.close(ours)
        else:
            self._keep(ours)
            if name != "stdin":
                self._read_all(name, ours)
        return theirs

    def read(self, name: str) -> bytes:
        """Returns all that the command wrote."""
        if name in self._files:
            return os.pread(self._files[name], 1 << 24, 0)
        if name in self._readers:
            self._readers[name].join()
        return bytes(self._content.get(name, b""))

    def _keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def _read_all(self, name: str, descriptor: int) -> None:
        content = self._content[name] = bytearray()

        def read() -> None:
            try:
                while chunk := os.read(descriptor, 1 << 16):
                    content.extend(chunk)
            except OSError:  # so a terminal says that nobody writes any more
                pass

        self._readers[name] = threading.Thread(target=read, daemon=True)
        self._readers[name].start()


def terminal(columns: int = COLUMNS) -> tuple[int, int]:
    """Returns our end of a new terminal and the command's; it passes on what is written unchanged."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    return ours, theirs
