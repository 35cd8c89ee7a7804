"""Runs a server in a process of its own, and looks at what it uses and leaves: memory, CPU, files, processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.serving.clients import answers

START_SECONDS = 120
STOP_SECONDS = 60
IDLE_SECONDS = 120
IDLE_CPU = 0.2
"""A server rests when it takes less than this share of one CPU for a second; it is waited for IDLE_SECONDS."""


@dataclass
class Server:
    """A server that runs at 127.0.0.1.

    Attributes:
        process: Its process.
        port: Its port.
        temporary: The folder for temporary files that only it has.
        log: The file of what it writes.
    """

    process: subprocess.Popen[bytes]
    port: int
    temporary: Path
    log: Path

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Returns its resident memory in MB: now, or with "VmHWM" its peak."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

    def cpu_seconds(self) -> float:
        """Returns the CPU time that it has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_idle(self) -> tuple[float | None, float]:
        """Returns the seconds until it rests, None where it does not, and the share of a CPU that it takes then."""
        began, share = time.monotonic(), 0.0
        while time.monotonic() - began < IDLE_SECONDS:
            start, cpu = time.monotonic(), self.cpu_seconds()
            time.sleep(1)
            share = (self.cpu_seconds() - cpu) / (time.monotonic() - start)
            if share < IDLE_CPU:
                return start - began, share
        return None, share

    def left(self) -> list[str]:
        """Returns what it left: files in its folder, open files there without a name, and processes."""
        files = [str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*")]
        unnamed = [link for link in open_files(self.process.pid) if link.startswith(f"{self.temporary}/")]
        return [*files, *unnamed, *(f"process {child}" for child in children(self.process.pid))]

    def stop(self) -> int | None:
        """Sends SIGTERM and returns the exit status; None where it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return None


def open_files(pid: int) -> list[str]:
    """Returns what the open files of a process are; those without a name end with "(deleted)"."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except OSError:  # closed meanwhile
            continue
    return links


def children(pid: int) -> list[int]:
    """Returns the processes that a process has started and that have not gone."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def free_port() -> int:
    """Returns a port of 127.0.0.1 at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: Sequence[str | Path], port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Runs a server for the time of a block, which begins when it answers.

    Raises click.ClickException, with its last line, for one that does not start. folder: an empty one for its log and
    temporary files. environment: its variables.
    """
    temporary, log = folder / "tmp", folder / "log.txt"
    temporary.mkdir(parents=True)
    with log.open("wb") as out:
        variables = {**environment, "TMPDIR": str(temporary.resolve())}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=variables)
    try:
        began = time.monotonic()
        while asyncio.run(answers(port, "/health")) is None:
            if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                said = log.read_text().strip().splitlines() or ["it said nothing"]
                raise click.ClickException(f"{command[0]} … did not start: {said[-1]}")
            time.sleep(0.05)
        yield Server(process, port, temporary.resolve(), log)
    finally:
        process.kill()
        process.wait()
