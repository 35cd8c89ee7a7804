"""Runs a program to its end, and measures the time and the memory of it and of the processes that it starts."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.common import busy_seconds

INTERVAL = 0.5
"""The most seconds between two looks at memory, each of which takes some milliseconds."""
SHARE = 0.1
"""The most time between two looks as a share of that since the start: programs that end soon are seen as well."""
LAST_LINE = 300
"""The most characters that are shown of a message."""


class ProgramError(Exception):
    """A program failed; the message is one line."""


@dataclass(frozen=True)
class Cost:
    """What a program took.

    Attributes:
        seconds: From its start to its end.
        peak_mb: The most memory of it and its processes together. What several of them share counts once (PSS).
        processes: The most processes at once.
        busy: The CPU seconds that all processes of the machine took meanwhile, each other's among them.
    """

    seconds: float
    peak_mb: float
    processes: int
    busy: float


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    log: Path,
    statuses: Sequence[int] = (0,),
    watch: Callable[[float], None] = lambda mb: None,
) -> Cost:
    """Runs a program whose messages go to `log`. Raises ProgramError where it ends with another status.

    watch: called with the memory in MB at each look.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    peak, most = 0.0, 0
    busy, start = busy_seconds(), perf_counter()
    with log.open("w") as messages:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, env=environment
        )
    ended = threading.Event()
    waiting = threading.Thread(target=lambda: (process.wait(), ended.set()))
    waiting.start()
    try:
        while not ended.wait(min(INTERVAL, SHARE * (perf_counter() - start))):
            family = processes_of(process.pid)
            memory = sum(map(pss_mb, family))
            peak, most = max(peak, memory), max(most, len(family))
            watch(memory)
    except BaseException:
        process.terminate()
        raise
    finally:
        waiting.join()
    seconds = perf_counter() - start
    if process.returncode not in statuses:
        lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise ProgramError(f"ended with status {process.returncode}: {lines[-1][:LAST_LINE]} (more in {log})")
    return Cost(seconds, peak, most, busy_seconds() - busy)


def processes_of(pid: int) -> list[int]:
    """Returns a process and those that it has started, and these, as far as they live."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        parents.setdefault(parent, []).append(int(stat.parent.name))
    family = [pid]
    for one in family:
        family += parents.get(one, [])
    return family


def pss_mb(pid: int) -> float:
    """Returns the proportional set size of a process in MB, 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) / 1024
