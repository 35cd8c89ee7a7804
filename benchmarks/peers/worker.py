"""Both ends of a peer's process: a `Worker` asks for one thing at a time over pipes, a `Peer` answers.

It needs Python and numpy alone, which the environments of all peers have.
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
from numpy.typing import NDArray

from benchmarks.common import memory_mb, since

TIMEOUT = 1200
"""The seconds after which a process that does not answer is killed."""


class WorkerError(Exception):
    """A worker failed; the message is one line."""


# --- the side that asks


class Worker:
    """A process that runs `serve`. `ask` calls a method of its peer; what it prints goes to `log`."""

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
        """The CPU time of the process so far, in seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, method: str, **arguments: Any) -> Any:
        """Returns what a method of the peer returns. Raises WorkerError if the process ends before it answers."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # _answer says why
            print(json.dumps({"method": method, "arguments": arguments}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], TIMEOUT)[0]:
            self._process.kill()
            raise WorkerError(f"no answer in {TIMEOUT} s")
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            last = (self._log.read_text().strip().splitlines() or ["it printed nothing"])[-1]
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
    """One library with one loaded model. A batch is some windows of 30 s, each of a recording of its own."""

    batched = True
    """Whether the windows of a batch are computed at once, and not one after the other."""

    def versions(self) -> dict[str, str]:
        raise NotImplementedError

    def log_mel(self, waveforms: NDArray[np.float32]) -> Any:
        """Returns what `encode` takes, for float32 [batch, samples]; silence follows a waveform shorter than 30 s."""
        raise NotImplementedError

    def encode(self, mel: Any) -> Any:
        """Returns what `decode` takes: the features of the windows."""
        raise NotImplementedError

    def decode(self, features: Any, n_tokens: int) -> list[list[int]]:
        """Returns `n_tokens` greedy English tokens without timestamps, for each window."""
        raise NotImplementedError

    def windows(self, audio_file: str, n_tokens: int) -> dict[str, Any]:
        """Returns the tokens of the recordings in a .npy file, float32 [batch, samples], and each phase's milliseconds.

        The decoder runs once for one token and once for all; the difference is what the other tokens took.
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
        decoding = since(start)
        return {
            "tokens": tokens,
            "log_mel": log_mel,
            "encoder": encoder,
            "first": first,
            "token": (decoding - first) / (n_tokens - 1),
            "total": log_mel + encoder + decoding,
        }

    def text(self, audio_file: str, n_tokens: int) -> list[list[int]]:
        """Returns the tokens alone: what a new process does first."""
        return self.decode(self.encode(self.log_mel(np.load(audio_file))), n_tokens)

    def peak_memory(self) -> float:
        """Returns the peak memory of this process so far, in MB."""
        return memory_mb("VmHWM")


def serve(make_peer: Callable[[], Peer]) -> None:
    """Answers a worker's requests, one line of JSON each, until stdin ends. The first answer describes the peer."""
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
    """Runs the command line of a peer's file, which only this benchmark uses. MODELS is a folder of the peer's own.

    convert CHECKPOINT MODELS                 writes the models of all variants, from a checkpoint in Hub layout
    work CHECKPOINT MODELS VARIANT THREADS    serves the peer that make_peer returns
    """
    command, checkpoint, models, *rest = sys.argv[1:]
    if command == "work":
        variant, threads = rest
        serve(lambda: make_peer(Path(checkpoint), Path(models), variant, int(threads)))
    elif convert:
        convert(Path(checkpoint), Path(models))
