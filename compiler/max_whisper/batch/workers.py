"""Chooses the number of workers: between one that uses all cores and one for each core, by measurement."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from max_whisper.artifact.read import read_manifest
from max_whisper.batch.memory import free_memory
from max_whisper.batch.pool import Pool
from max_whisper.batch.protocol import Measured
from max_whisper.caches import user_cache
from max_whisper.errors import MaxWhisperError
from max_whisper.runtime.output.files import write_file

WORTH_MEASURING = 1800.0
"""The seconds of sound for which measuring takes less time than it saves."""
MEASURED_FOR = 3.0
"""The seconds for which each number of workers is measured."""
MEMORY = 400 << 20
"""The bytes of memory that must be free for each worker beyond the first."""
BETTER = 1.03
"""How much faster more workers must be, which take more memory."""
SAMPLES = 3
"""The number of recordings that are tried, until one can be read."""


class _Rates(msgspec.Struct, frozen=True):
    """The seconds of sound that some numbers of workers transcribe in a second."""

    rates: dict[int, float]


def cores_of(workers: int, cores: Sequence[int]) -> list[list[int]]:
    """Returns the cores of each worker: neighbors, as evenly as can be; more workers than cores share them."""
    if workers >= len(cores):
        return [[cores[index % len(cores)]] for index in range(workers)]
    bounds = [index * len(cores) // workers for index in range(workers + 1)]
    return [[*cores[first:last]] for first, last in itertools.pairwise(bounds)]


def known_workers(artifact: Path, cores: Sequence[int], recordings: int) -> int | None:
    """Returns the number of workers that is the fastest, if nothing must be measured for that; None if it may have to.

    Args:
        artifact: The folder of the model.
        cores: The cores that may be used.
        recordings: Their number, which is the most workers that have something to do.
    """
    most = _most(cores, recordings)
    rates = _remembered(_cache_file(artifact, cores))
    return min(fastest(rates), most) if rates else None if most > 1 else most


def choose_workers(
    artifact: Path,
    options: Mapping[str, Any],
    cores: Sequence[int],
    samples: Sequence[Path],
    seconds: float,
    recordings: int,
    say: Callable[[str], None],
    stop: Callable[[], bool],
) -> int:
    """Returns the number of workers that is the fastest, where `known_workers` does not know it: it may be measured.

    Args:
        artifact: The folder of the model.
        options: The options of `Model.transcribe`.
        cores: The cores that may be used.
        samples: Recordings to measure with.
        seconds: The seconds of sound that are to be transcribed; with few, nothing is measured.
        recordings: Their number, which is the most workers that have something to do.
        say: Called with what was measured.
        stop: Returns whether to stop.

    Raises:
        MaxWhisperError: The model cannot be loaded.
    """
    most = _most(cores, recordings)
    if most == 1 or seconds < WORTH_MEASURING or not samples:
        return most
    say(f"measuring how many workers are the fastest on {len(cores)} cores, once for this model and machine")
    rates = _measure(artifact, options, cores, samples[:SAMPLES], stop)
    if not rates:
        return most
    say("measured: " + ", ".join(f"{number} x: {rate:.0f} x real time" for number, rate in rates.items()))
    cache = _cache_file(artifact, cores)
    with contextlib.suppress(OSError, MaxWhisperError):  # it is measured again
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_file(cache, msgspec.json.encode(_Rates(rates)).decode())
    return min(fastest(rates), most)


def fastest(rates: Mapping[int, float]) -> int:
    """Returns the number of workers with the highest rate; of those that are nearly as fast, the smallest."""
    best = max(rates.values())
    return min(number for number, rate in rates.items() if rate * BETTER >= best)


def _most(cores: Sequence[int], recordings: int) -> int:
    return max(1, min(len(cores), recordings, 1 + free_memory() // MEMORY))


def _measure(
    artifact: Path,
    options: Mapping[str, Any],
    cores: Sequence[int],
    samples: Sequence[Path],
    stop: Callable[[], bool],
) -> dict[int, float]:
    """Returns the seconds of sound in a second, by the number of workers; empty where no sample can be read."""
    numbers = sorted({1 << power for power in range(len(cores).bit_length())} | {len(cores)})
    numbers = [number for number in numbers if number <= 1 + free_memory() // MEMORY]
    rates: dict[int, float] = {}
    for sample in samples:
        for number in numbers:
            rate = _rate(Pool(artifact, options, cores_of(number, cores)), sample, stop)
            if not rate:
                break
            rates[number] = rate
        if len(rates) == len(numbers) or stop():
            break
    return rates if len(rates) == len(numbers) else {}


def _rate(pool: Pool, sample: Path, stop: Callable[[], bool]) -> float:
    """Returns the seconds of sound in a second of a pool, which is closed then; 0 where a process ended."""
    processes = pool.processes
    rates: list[float] = []
    try:
        while not pool.is_ready and not stop():
            pool.poll(0.1)
        pool.measure(sample, MEASURED_FOR)
        while len(rates) < len(pool) and pool.processes == processes and not stop():
            rates += [told.rate for told in pool.poll(0.1) if isinstance(told, Measured)]
    finally:
        pool.close()
    return sum(rates) if len(rates) == len(pool) and all(rates) else 0.0


def _cache_file(artifact: Path, cores: Sequence[int]) -> Path:
    parts = (read_manifest(artifact).hash, str(len(cores)), _processor())
    return user_cache() / f"workers-{blake3(' '.join(parts).encode()).hexdigest()[:16]}.json"


def _remembered(cache: Path) -> dict[int, float]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=_Rates).rates
    except (OSError, ValueError):
        return {}


def _processor() -> str:
    """Returns the name of the processor; computers may share a cache."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine
