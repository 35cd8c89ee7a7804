"""Runs `max-whisper live` in a process of its own, sees what it shows meanwhile, and interrupts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from support.screens import Emulator
from support.terminals import COLUMNS, terminal

FAKE_SOUND = Path(__file__).parent / "fake_sound"
PATIENCE = 120.0  # seconds


def fake_microphone(sound: Path, **settings: str) -> dict[str, str]:
    """Returns the environment in which a file of int16 samples is heard by a microphone; see sounddevice.py there."""
    path = os.pathsep.join([str(FAKE_SOUND), *filter(None, [os.environ.get("PYTHONPATH")])])
    named = {f"FAKE_SOUND_{name}".upper(): value for name, value in settings.items()}
    return {"PYTHONPATH": path, "FAKE_SOUND": str(sound), **named}


class LiveRun:
    """A run of the command; a context that ends it.

    Attributes:
        code: The exit code, once `end` was called.
    """

    def __init__(
        self,
        *arguments: str | os.PathLike[str],
        stdout: str = "pipe",
        stderr: str = "pipe",
        stdin: bytes | None = None,
        columns: int = COLUMNS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it. stdout, stderr: "pipe", "terminal" or "one" (the terminal that stdout is)."""
        self._content = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers: list[threading.Thread] = []
        ends = {}
        for name, kind in (("stdout", stdout), ("stderr", stderr)):
            if kind == "one":
                ends[name] = os.dup(ends["stdout"])
                continue
            ours, ends[name] = terminal(columns) if kind == "terminal" else os.pipe()
            self._readers.append(threading.Thread(target=self._read, args=(name, ours), daemon=True))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "max_whisper", "live", *map(os.fspath, arguments)],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", **(environment or {})},
            start_new_session=True,
            preexec_fn=heed_interrupts,
            **ends,
        )
        for end in ends.values():
            os.close(end)
        for reader in self._readers:
            reader.start()
        if stdin is not None:
            assert self._process.stdin is not None
            self._process.stdin.write(stdin)
            self._process.stdin.close()
        self.code: int | None = None
        self._columns = columns

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def stdout(self) -> str:
        """What was written to standard output so far."""
        return self._content["stdout"].decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What was written to standard error so far."""
        return self._content["stderr"].decode(errors="replace")

    def wait_for(self, *texts: str) -> None:
        """Waits until one of some texts was written to either of both."""
        until = time.monotonic() + PATIENCE
        while not any(text in self.stdout + self.stderr for text in texts):
            assert time.monotonic() < until and self._process.poll() is None, (texts, self.stdout, self.stderr)
            time.sleep(0.02)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Sends a signal, as Ctrl-C in a terminal does."""
        self._process.send_signal(number)

    def end(self) -> LiveRun:
        """Waits for the end."""
        self.code = self._process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return self

    def screen(self, name: str = "stdout") -> Emulator:
        """Returns the terminal that standard output or standard error is."""
        emulator = Emulator(self._columns)
        emulator.write(self._content[name].decode())
        return emulator

    def _read(self, name: str, ours: int) -> None:
        with contextlib.suppress(OSError):  # so a terminal says that nobody writes any more
            while chunk := os.read(ours, 1 << 16):
                self._content[name].extend(chunk)
        os.close(ours)


def heed_interrupts() -> None:
    """Makes a process heed Ctrl-C, which the background jobs of a shell, where tests may run, ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
