"""Starts servers in processes of their own, and clients of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import openai

ADDRESS = re.compile(r"serving .* at (https?://\S+)/v1")
START_SECONDS = 120
PATIENCE = 60.0
"""The seconds for which tests wait for what must happen: CI's machine is shared, and may be slow."""


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits until a function returns something true; fails after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.01)


@dataclass
class Server:
    """A server that runs.

    Attributes:
        process: Its process.
        url: Its address, without /v1.
        temporary: The folder that it has for temporary files.
        lines: What it has written to standard error so far.
    """

    process: subprocess.Popen[str]
    url: str
    temporary: Path
    lines: list[str] = field(default_factory=list)

    def client(self, **options: object) -> openai.OpenAI:
        """Returns OpenAI's client for it, which does not try again by itself."""
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "any", "max_retries": 0, **options})

    def get(self, path: str, **options: object) -> httpx2.Response:
        return httpx2.get(self.url + path, trust_env=False, **options)

    def post(self, path: str, **options: object) -> httpx2.Response:
        return httpx2.post(self.url + path, trust_env=False, timeout=60, **options)

    def cpu_seconds(self) -> float:
        """Returns the CPU time that the process has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str, **labels: str) -> float:
        """Returns the value of a metric; 0 where there is none with these labels."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.get("/metrics").text.splitlines():
            head, _, value = line.rpartition(" ")
            base, _, given = head.partition("{")
            if base == name and wanted <= {*given.rstrip("}").split(",")}:
                return float(value)
        return 0.0

    def wait_for(self, requests: int) -> None:
        """Waits until some number of requests is worked on."""
        until(lambda: self.get("/health").json()["requests"] == requests)

    def wait_until_idle(self) -> None:
        """Waits until no request is worked on."""
        self.wait_for(0)

    def is_stopping(self) -> bool:
        """Returns whether it takes no more requests."""
        return self.get("/health").status_code == 503

    def left_files(self) -> list[Path]:
        """Returns what it has in its folder for temporary files, also those without a name that it has open."""
        unnamed = []
        if self.process.poll() is None:
            for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    unnamed.append(link.readlink())
        inside = [path for path in unnamed if path.is_relative_to(self.temporary) and path.name.endswith("(deleted)")]
        return [*self.temporary.rglob("*"), *inside]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 90) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def server(temporary: Path, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Runs `max-whisper serve` with arguments, at a port that is free, for the time of a block.

    temporary: an empty folder for its temporary files. env: variables besides those of this process.
    """
    command = [sys.executable, "-m", "max_whisper", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary), **(env or {})}
    )
    lines: list[str] = []
    address = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if ADDRESS.match(line):
                address.set()
        address.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert address.wait(START_SECONDS), lines
        match = next((found for line in lines if (found := ADDRESS.match(line))), None)
        assert match, lines
        yield Server(process, match[1], temporary, lines)
    finally:
        process.kill()
        process.wait()
        reader.join(5)
