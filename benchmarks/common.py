"""What the benchmarks share: a made recording, machine facts, timing of MAX.

Imports numpy alone, so that the workers of all peers can use it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WINDOW = 30 * SAMPLE_RATE  # samples


def use_cpus(threads: int) -> None:
    """Keeps this process and the ones it starts to `threads` CPUs. Call it before MAX starts its threads."""
    cpus = sorted(os.sched_getaffinity(0))
    if threads > len(cpus):
        print(f"{threads} threads were asked for, and there are {len(cpus)} CPUs", file=sys.stderr)
        sys.exit(2)
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


# --- timing


@contextmanager
def executions() -> Iterator[list[float]]:
    """Lists the milliseconds of each graph that MAX executes meanwhile."""
    from max_whisper.artifact.engine import CompiledGraph

    seen: list[float] = []
    execute = CompiledGraph.execute

    def timed(graph: CompiledGraph, *inputs: Any) -> Any:
        start = perf_counter()
        outputs = execute(graph, *inputs)
        seen.append(since(start))
        return outputs

    CompiledGraph.execute = timed  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        CompiledGraph.execute = execute  # type: ignore[method-assign]
        assert seen, "no graph was executed"


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
