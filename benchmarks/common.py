"""What the benchmarks share: a synthetic recording, facts about the machine, timing of MAX, help texts.

It imports numpy alone, so that the workers of all peers can use it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WINDOW = 30 * SAMPLE_RATE  # samples

T = TypeVar("T")


def help_text(docstring: str) -> str:
    """Returns a docstring as click's help, in which indented paragraphs keep their lines."""
    paragraphs = docstring.split("\n\n")
    return "\n\n".join(f"\b\n{text}" if text.startswith("    ") else text for text in paragraphs)


def rotated(items: Sequence[T], by: int) -> list[T]:
    """Returns the items in their order, beginning with another one: turns in which nobody is always first."""
    by %= len(items) or 1
    return [*items[by:], *items[:by]]


def use_cpus(threads: int) -> None:
    """Restricts this process, and those it starts, to `threads` CPUs. Call it before MAX starts its threads."""
    cpus = sorted(os.sched_getaffinity(0))
    if threads > len(cpus):
        print(f"{threads} threads were asked for, and there are {len(cpus)} CPUs", file=sys.stderr)
        sys.exit(2)
    os.sched_setaffinity(0, cpus[:threads])


def made_recording(seconds: float = 30.0, seed: int = 0) -> NDArray[np.float32]:
    """Returns syllables of colored noise over a gliding hum, float32 [samples]: no words, but a structured log-mel."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    hum = np.sin(2 * np.pi * (120 * t + 6 * np.sin(2 * np.pi * 0.7 * t)))
    hiss = np.convolve(rng.standard_normal(n), [0.5, 0.3, 0.2], mode="same")
    loudness = np.interp(t, np.arange(0, seconds + 1, 0.12), rng.uniform(0, 1, len(np.arange(0, seconds + 1, 0.12))))
    return (loudness * (0.3 * hum + 0.05 * hiss)).astype(np.float32)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Returns how many tokens at the start of two texts are the same."""
    pairs = zip(a, b, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))


# --- timing


@contextmanager
def executions() -> Iterator[list[float]]:
    """Yields a list that receives the milliseconds of each graph that MAX executes inside the `with`."""
    from max_whisper.artifact.engine import CompiledGraph

    times: list[float] = []
    execute = CompiledGraph.execute

    def timed(graph: CompiledGraph, *inputs: Any) -> Any:
        start = perf_counter()
        outputs = execute(graph, *inputs)
        times.append(since(start))
        return outputs

    CompiledGraph.execute = timed  # type: ignore[method-assign]
    try:
        yield times
    finally:
        CompiledGraph.execute = execute  # type: ignore[method-assign]
    assert times, "no graph was executed"


def since(start: float) -> float:
    """Returns the milliseconds since `start`, which `perf_counter` gave."""
    return (perf_counter() - start) * 1e3


# --- facts


def machine() -> dict[str, Any]:
    """Returns what a figure depends on: CPU, its features, memory, system."""
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
    """Returns the seconds that all CPUs were busy since the machine started, those that the host took included."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _field(info: str, key: str) -> str:
    """Returns the value of the first line `key : value` of /proc/cpuinfo or of a status file."""
    lines = (line.partition(":") for line in info.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "unknown")


def memory_mb(field: str = "VmRSS") -> float:
    """Returns the resident memory of this process in MB: now, or with "VmHWM" its peak."""
    return int(_field(Path("/proc/self/status").read_text(), field).split()[0]) / 1024
