"""What the benchmarks share: workers that answer over pipes, a made recording, machine facts, timing of MAX.

Imports neither MAX nor OpenVINO, so that the workers of both sides can use it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WINDOW = 30 * SAMPLE_RATE  # samples
PHASES = {  # what `Peer.window` measures
    "encoder": "encoder, ms",
    "cross_kv": "cross-attention keys and values, ms",
    "first": "first token (prompt of 4), ms",
    "token": "every other token, ms",
    "total": "window to last token, ms",
}


def use_cpus(threads: int) -> None:
    """Keeps this process and the ones it starts to `threads` CPUs. Call it before MAX starts its threads."""
    cpus = sorted(os.sched_getaffinity(0))
    if threads > len(cpus):
        sys.exit(f"{threads} threads were asked for, and there are {len(cpus)} CPUs")
    os.sched_setaffinity(0, cpus[:threads])


def made_recording(seconds: float = 30.0, seed: int = 0) -> NDArray[np.float32]:
    """Syllables of coloured noise over a gliding hum: nothing to understand, but a mel with structure."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    hum = np.sin(2 * np.pi * (120 * t + 6 * np.sin(2 * np.pi * 0.7 * t)))
    hiss = np.convolve(rng.standard_normal(n), [0.5, 0.3, 0.2], mode="same")
    loudness = np.interp(t, np.arange(0, seconds + 1, 0.12), rng.uniform(0, 1, len(np.arange(0, seconds + 1, 0.12))))
    return (loudness * (0.3 * hum + 0.05 * hiss)).astype(np.float32)


# --- workers: a process of any interpreter, asked for one thing at a time


class Worker:
    """A process that runs `serve`; `ask` calls a method of its peer."""

    def __init__(self, name: str, command: Sequence[str | Path]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts: dict[str, Any] = self._answer()

    @property
    def cpu_seconds(self) -> float:
        """What its threads have computed until now."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, method: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        print(json.dumps({"method": method, "arguments": arguments}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: the worker ended with status {self._process.wait()}; see its message above")
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def serve(make_peer: Callable[[], Peer]) -> None:
    """Answers a worker's requests, one line of JSON each, until stdin ends. The first answer is `peer.facts()`."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    peer = make_peer()
    print(json.dumps(peer.facts()), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(peer, request["method"])(**request["arguments"])), file=answers, flush=True)


# --- timing


class Peer:
    """One side of a comparison. `worker` processes serve its methods."""

    def encode(self, mel: NDArray[np.float32]) -> Any:
        """The features of one window, float32 [n_mels, n_frames]."""
        raise NotImplementedError

    def decode(self, features: Any, n_tokens: int) -> tuple[list[int], float]:
        """`n_tokens` greedy English tokens, and the milliseconds that the cross-attention's keys and values took."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Versions."""
        raise NotImplementedError

    def window(self, mel_file: str, n_tokens: int) -> dict[str, Any]:
        """Tokens of the window in a .npy file, and milliseconds. Everything but the encoder is timed around `decode`:
        once for one token, once for all; the difference is what the other tokens took.
        """
        mel = np.load(mel_file)
        start = perf_counter()
        features = self.encode(mel)
        encoder = since(start)

        start = perf_counter()
        _, cross_kv = self.decode(features, 1)
        one = since(start)

        start = perf_counter()
        tokens, _ = self.decode(features, n_tokens)
        every = since(start)
        return {
            "tokens": tokens,
            "encoder": encoder,
            "cross_kv": cross_kv,
            "first": one - cross_kv,
            "token": (every - one) / (n_tokens - 1),
            "total": encoder + every,
        }

    def peak_memory(self) -> float:
        return memory_mb("VmHWM")


@contextmanager
def executions() -> Iterator[list[float]]:
    """Lists the milliseconds of each graph that MAX executes meanwhile."""
    from max.engine import Model

    seen: list[float] = []
    execute = Model.execute

    def timed(model: Model, *inputs: Any) -> Any:
        start = perf_counter()
        outputs = execute(model, *inputs)
        seen.append(since(start))
        return outputs

    Model.execute = timed  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Model.execute = execute  # type: ignore[method-assign]


def since(start: float) -> float:
    """Milliseconds since a `perf_counter`."""
    return (perf_counter() - start) * 1e3


# --- facts


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    info = Path("/proc/cpuinfo").read_text()
    flags = set(_field(info, "flags").split())
    return {
        "cpu": _field(info, "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "features": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8"}),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": platform.platform(),
    }


def busy_seconds() -> float:
    """What all CPUs have computed since the machine started, and what the host took from them."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _field(info: str, key: str) -> str:
    """The value of the first line `key : value` of /proc/cpuinfo or of a status file."""
    lines = (line.partition(":") for line in info.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "unknown")


def memory_mb(what: str = "VmRSS") -> float:
    """This process's resident memory now; "VmHWM" is its peak."""
    return int(_field(Path("/proc/self/status").read_text(), what).split()[0]) / 1024
