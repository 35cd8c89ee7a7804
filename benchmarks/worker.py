"""Processes of any interpreter that are asked for one thing at a time over pipes, and what runs in them: a `Peer`.

Needs Python and numpy alone, as the environments of all peers have them.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from common import memory_mb, since
from numpy.typing import NDArray

PATIENCE = 1200
"""Seconds until a process that does not answer is given up."""


class WorkerError(Exception):
    """A worker failed; the message is one line."""


# --- the side that asks


class Worker:
    """A process that runs `serve`; `ask` calls a method of its peer. Its messages go to `log`."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as messages:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env=environment,
            )
        self.facts: dict[str, Any] = self._answer()

    @property
    def cpu_seconds(self) -> float:
        """What its threads have computed until now."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, method: str, **arguments: Any) -> Any:
        """Raises WorkerError if the process has ended, or ends before it answers."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # _answer says why
            print(json.dumps({"method": method, "arguments": arguments}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
            raise WorkerError(f"no answer in {PATIENCE} s")
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            last = (self._log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            raise WorkerError(f"ended with status {status}: {last} (more in {self._log})")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()


# --- the side that answers


class Peer:
    """One library with one model, loaded. A batch is some windows of 30 s, a recording each."""

    batched = True
    """Whether it computes the windows of a batch at once; if not, it does them one after another."""

    def versions(self) -> dict[str, str]:
        raise NotImplementedError

    def log_mel(self, waveforms: NDArray[np.float32]) -> Any:
        """What `encode` takes, of float32 [batch, samples]; a waveform shorter than 30 s is followed by silence."""
        raise NotImplementedError

    def encode(self, mel: Any) -> Any:
        """The features of some windows."""
        raise NotImplementedError

    def decode(self, features: Any, n_tokens: int) -> list[list[int]]:
        """`n_tokens` greedy English tokens without timestamps, of each window."""
        raise NotImplementedError

    def windows(self, audio_file: str, n_tokens: int) -> dict[str, Any]:
        """Tokens of the recordings in a .npy file, float32 [batch, samples], and the milliseconds of each phase.

        The decoder runs once for one token, once for all; the difference is what the other tokens took.
        """
        waveforms = np.load(audio_file)
        start = perf_counter()
        mel = self.log_mel(waveforms)
        log_mel = since(start)

        start = perf_counter()
        features = self.encode(mel)
        encoder = since(start)

        start = perf_counter()
        self.decode(features, 1)
        first = since(start)

        start = perf_counter()
        tokens = self.decode(features, n_tokens)
        every = since(start)
        return {
            "tokens": tokens,
            "log_mel": log_mel,
            "encoder": encoder,
            "first": first,
            "token": (every - first) / (n_tokens - 1),
            "total": log_mel + encoder + every,
        }

    def text(self, audio_file: str, n_tokens: int) -> list[list[int]]:
        """The tokens alone, at once: what a new process does first."""
        return self.decode(self.encode(self.log_mel(np.load(audio_file))), n_tokens)

    def peak_memory(self) -> float:
        """MB of this process so far."""
        return memory_mb("VmHWM")


def serve(make_peer: Callable[[], Peer]) -> None:
    """Answers a worker's requests, one line of JSON each, until stdin ends. The first answer is about the peer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    start = perf_counter()
    peer = make_peer()
    facts = {"load": since(start), "batched": peer.batched, "versions": peer.versions()}
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(peer, request["method"])(**request["arguments"])), file=answers, flush=True)


def peer_main(
    make_peer: Callable[[Path, Path, str, int], Peer], convert: Callable[[Path, Path], None] | None = None
) -> None:
    """The command line of a peer's file, for `peers.py` alone. MODELS is a folder of the peer's own.

    \b
        convert CHECKPOINT MODELS                 makes the models of all its variants of a Hub checkpoint's folder
        work CHECKPOINT MODELS VARIANT THREADS    serves the peer that make_peer gives
    """
    command, checkpoint, models, *rest = sys.argv[1:]
    if command == "work":
        variant, threads = rest
        serve(lambda: make_peer(Path(checkpoint), Path(models), variant, int(threads)))
    elif convert:
        convert(Path(checkpoint), Path(models))
