"""Runs the peers in turns: new processes, and rounds of windows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.common import busy_seconds, rotated, since
from benchmarks.peers.figures import equal_tokens
from benchmarks.peers.sides import Failures, Side, say
from benchmarks.peers.worker import Worker, WorkerError

REST = 1.0  # seconds after each turn, as a library's threads busy-wait for more work, MAX's for up to half a second


def new_processes(
    sides: list[Side], runs: int, setting: dict[str, Any], audio: str, logs: Path, failures: Failures
) -> dict[str, Any]:
    """Returns `setting` with the time and memory that new processes of each peer take to their first text."""
    results: dict[str, list[dict[str, float]]] = {}
    for i in range(runs):
        for side in rotated(sides, i):
            if side.batch not in (None, 1) or side.label in failures:
                continue
            start = perf_counter()
            try:
                worker = side.start(logs)
                worker.ask("text", audio_file=audio, n_tokens=setting["tokens"])
                figures = {
                    "first_text": since(start),
                    "load": worker.facts["load"],
                    "memory": worker.ask("peak_memory"),
                }
                worker.close()
            except WorkerError as e:
                failures.add(side.label, e)
                continue
            results.setdefault(side.label, []).append(figures)
            sleep(REST)
        say(f"new processes: {i + 1} of {runs}")
    return setting | {"runs": results}


@contextmanager
def loaded(sides: Sequence[Side], logs: Path, failures: Failures) -> Iterator[dict[str, Worker]]:
    """Yields workers by label, without those that do not start or failed before; closes them in the end."""
    workers: dict[str, Worker] = {}
    with ExitStack() as stack:
        for side in sides:
            if side.label in failures:
                continue
            try:
                workers[side.label] = side.start(logs)
            except WorkerError as e:
                failures.add(side.label, e)
                continue
            stack.callback(workers[side.label].close)
        yield workers


def measured(
    workers: dict[str, Worker], rounds: int, setting: dict[str, Any], audio: str, failures: Failures
) -> dict[str, Any]:
    """Returns `setting` with the phases of each round, the number of equal tokens, and peak memory of each peer."""
    results: dict[str, list[dict[str, Any]]] = {label: [] for label in workers}

    def other_seconds() -> float:
        return busy_seconds() - sum(worker.cpu_seconds for worker in workers.values())

    def attempt(label: str, ask: Callable[[Worker], Any]) -> Any:
        try:
            return ask(workers[label])
        except WorkerError as e:
            failures.add(label, e)
            del workers[label], results[label]

    start, before = perf_counter(), other_seconds()
    for i in range(rounds + 1):
        for label in rotated([*workers], i):
            window = attempt(label, lambda w: w.ask("windows", audio_file=audio, n_tokens=setting["tokens"]))
            if window:
                results[label].append(window)
            sleep(REST)
        say(f"{setting['batch']} x {setting['seconds']:g} s: {f'round {i} of {rounds}' if i else 'warm'}")
    disturbed = (other_seconds() - before) / (perf_counter() - start) / (os.cpu_count() or 1)
    tokens = {label: windows.pop(0)["tokens"] for label, windows in results.items()}
    for label in [*results]:
        if any(len(window) != setting["tokens"] for window in tokens[label]):
            lengths = ", ".join(str(len(window)) for window in tokens[label])
            say(f"{label} gave {lengths} tokens, not {setting['tokens']}: its times are of other work")
    memory = {label: attempt(label, lambda w: w.ask("peak_memory")) for label in [*results]}
    return setting | {
        "disturbed": disturbed,
        "equal": equal_tokens(tokens),
        "memory": memory,
        "batched": {label: workers[label].facts["batched"] or setting["batch"] == 1 for label in results},
        "rounds": {
            label: [{phase: ms for phase, ms in window.items() if phase != "tokens"} for window in windows]
            for label, windows in results.items()
        },
    }
