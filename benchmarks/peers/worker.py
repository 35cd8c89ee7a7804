"""Both ends of an engine's process: a `Worker` asks for one thing at a time over pipes, a `Peer` answers.

It needs Python and numpy alone, which the environments of all engines have.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import memory_mb

TIMEOUT = 1800
"""The seconds after which a process that does not answer is killed."""
FEW = 10
"""The tokens of the shorter of the two calls whose difference is the time of a token."""
BEAMS = 5
"""The beams of the mode `beams`: the default of faster-whisper, and of the commands of two others."""


class WorkerError(Exception):
    """A worker failed; the message is one line."""


# --- the side that asks


class Worker:
    """A process that runs `serve`. `ask` calls a method of its peer; what it prints goes to `log`."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as messages:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env=environment,
            )
        try:
            self.load: float = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            last = (self._log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
            raise WorkerError(f"ended with status {status}: {last[:300]} (more in {self._log})")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


# --- the side that answers


@dataclass(frozen=True)
class Heard:
    """The text of a recording, and how many of its words have times, where they were asked for."""

    text: str
    words: int | None = None


class Peer:
    """One engine with one loaded model, called as its users call it. Greedy, at temperature 0, in a given language."""

    CALL: ClassVar[str] = ""
    """The call that is measured, with {} for its keyword arguments."""

    def versions(self) -> dict[str, str]:
        """Returns what the figures depend on: the versions of libraries, and what they were compiled for."""
        raise NotImplementedError

    def call(self) -> str:
        """Returns the call that is measured, with {} for its keyword arguments, where it depends on the variant."""
        return self.CALL

    def arguments(self, mode: str, language: str) -> dict[str, Any]:
        """Returns the keyword arguments of the call for a recording."""
        raise NotImplementedError

    def window_arguments(self, n_tokens: int) -> dict[str, Any]:
        """Returns the keyword arguments of the call for `n_tokens` English tokens of a window, without timestamps."""
        raise NotImplementedError

    def transcribe(self, waveform: NDArray[np.float32], arguments: dict[str, Any]) -> Heard:
        """Makes the call."""
        raise NotImplementedError

    def encoder(self, waveform: NDArray[np.float32]) -> float | None:
        """Returns the seconds of the encoder for a window of 30 s; None where users of the engine do not see them."""
        return None

    def tokens(self) -> int | None:
        """Returns the tokens that the last call chose; None where the engine does not say."""
        return None

    # --- what a worker asks for

    def about(self, mode: str) -> dict[str, Any]:
        """Returns the versions, and the call as it is written in Python."""
        arguments = self.window_arguments(100) if mode == "window" else self.arguments(mode, "en")
        written = "".join(f", {name}={value!r}" for name, value in arguments.items())
        return {"versions": self.versions(), "call": self.call().replace("{}", written)}

    def recording(self, file: str, language: str, mode: str) -> dict[str, Any]:
        """Returns the text of a .npy file, float32 [samples], and the seconds that it took."""
        waveform, arguments = np.load(file), self.arguments(mode, language)
        start = perf_counter()
        heard = self.transcribe(waveform, arguments)
        return {"seconds": perf_counter() - start, "text": heard.text, "words": heard.words}

    def window(self, file: str, n_tokens: int) -> dict[str, Any]:
        """Returns the seconds for a window of 30 s: end to end, and for the encoder and a token where possible."""
        waveform = np.load(file)
        start = perf_counter()
        self.transcribe(waveform, self.window_arguments(FEW))
        few = perf_counter() - start

        start = perf_counter()
        self.transcribe(waveform, self.window_arguments(n_tokens))
        seconds = perf_counter() - start
        return {
            "seconds": seconds,
            "tokens": self.tokens(),
            "token": (seconds - few) / (n_tokens - FEW),
            "encoder": self.encoder(waveform),
        }

    def peak_memory(self) -> float:
        """Returns the peak memory of this process so far, in MB."""
        return memory_mb("VmHWM")


def multilingual(checkpoint: Path) -> bool:
    """Returns whether a checkpoint knows languages; many engines refuse one for a model that is English alone."""
    return bool(json.loads((checkpoint / "generation_config.json").read_text())["is_multilingual"])


def serve(make_peer: Callable[[], Peer]) -> None:
    """Answers a worker's requests, one line of JSON each, until stdin ends. The first answer is the load's seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    start = perf_counter()
    peer = make_peer()
    print(json.dumps(perf_counter() - start), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(peer, request["method"])(**request["arguments"])), file=answers, flush=True)


def peer_main(
    make_peer: Callable[[Path, Path, str, int, str], Peer], convert: Callable[[Path, Path], None] | None = None
) -> None:
    """Runs the command line of an engine's file, which only this benchmark uses. MODELS is a folder of its own.

    convert CHECKPOINT MODELS                      writes the models of all variants, from a checkpoint in Hub layout
    work CHECKPOINT MODELS VARIANT THREADS MODE    serves the peer that make_peer returns
    """
    command, checkpoint, models, *rest = sys.argv[1:]
    if command == "work":
        variant, threads, mode = rest
        serve(lambda: make_peer(Path(checkpoint), Path(models), variant, int(threads), mode))
    elif convert:
        convert(Path(checkpoint), Path(models))
