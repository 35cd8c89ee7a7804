"""Runs the engines in turns, one process at a time: loaded and warm, or from the start of the process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.common import busy_seconds, rotated
from benchmarks.peers.records import Job, Record, commit, digest, opened, save
from benchmarks.peers.setup import SetupError, command, say
from benchmarks.peers.tasks import COLD, TOKENS, waveform_file
from benchmarks.peers.worker import Worker, WorkerError

Turn = dict[str, Any]


class Failures(dict[str, str]):
    """What went wrong, by the name of a job, or by an engine's label where it is for all jobs; printed at once."""

    def add(self, label: str, error: Exception) -> None:
        self[label] = str(error)
        say(f"{label}: {error}")


@dataclass(frozen=True)
class Measurement:
    """How long and with what is measured.

    Attributes:
        work: The folder of environments, models, sound and results.
        speech: The folder of recordings; None for sound that is made.
        threads: The CPUs and threads of each engine.
        turns: The processes of an engine that are loaded and measured, one after the other engines'.
        runs: The runs over all recordings of a task in each of them.
        starts: The new processes of an engine whose start is measured.
        rest: The seconds of rest before a process starts.
    """

    work: Path
    speech: Path | None
    threads: int
    turns: int
    runs: int
    starts: int
    rest: float
    failures: Failures = field(default_factory=Failures)

    def measure(self, jobs: Sequence[Job]) -> None:
        """Measures what is missing of the jobs of one task on one checkpoint, in turns that begin with another."""
        if not jobs:
            return
        task, records = jobs[0].task, {}
        for job in jobs:
            record = opened(job, self.work, job.identity(self.threads, digest(job.checkpoint)))
            records[job] = record
        wanted = self.starts if task.setting == COLD else self.turns
        if all(len(record["turns"]) >= wanted for record in records.values()):
            say(f"{jobs[0].checkpoint.name}, {task}: there")
            return
        sound = [waveform_file(recording, self.speech, self.work) for recording in task.recordings]
        for turn in range(wanted):
            for job in rotated([*jobs], turn):
                if len(records[job]["turns"]) <= turn and not {job.label, str(job)} & self.failures.keys():
                    self._turn(job, records[job], sound, f"turn {turn + 1} of {wanted}")

    def _turn(self, job: Job, record: Record, sound: Sequence[Path], which: str) -> None:
        """Adds a turn to a record, and saves it."""
        try:
            words, environment = command(job, self.work, self.threads)
        except SetupError as error:
            self.failures.add(job.label, error)
            return
        sleep(self.rest)
        try:
            log = self.work / "logs" / f"{job.engine}-{job.variant.name}.log"
            if job.task.setting == COLD:
                turn = started(job, words, environment, log, sound, first=not record["turns"])
            else:
                turn = loaded(job, words, environment, log, sound, self.runs)
        except WorkerError as error:
            self.failures.add(str(job), error)
            return
        record |= turn.pop("about") | {"commit": commit()}
        record["turns"].append(turn)
        save(record, job.file(self.work))
        times = ", ".join(f"{run['seconds']:.2f}" for run in turn["runs"])
        busy = f", others took {turn['disturbed']:.0%} of the CPUs" if turn["disturbed"] > 0.02 else ""
        say(f"{job}: {which}: {times} s{busy}")


def loaded(
    job: Job, words: Sequence[str | Path], environment: dict[str, str], log: Path, sound: Sequence[Path], runs: int
) -> Turn:
    """Returns the times of a process that is loaded and has transcribed the shortest recording once."""
    with Worker(words, environment, log) as worker:
        shortest = min(range(len(sound)), key=lambda i: job.task.recordings[i].seconds)
        _ask(worker, job, sound, shortest)
        with disturbance(worker) as disturbed:
            done = [[_ask(worker, job, sound, i) for i in range(len(sound))] for _ in range(runs)]
        return _turn(worker, job, [_run(answers) for answers in done], done[0], disturbed)


def started(
    job: Job, words: Sequence[str | Path], environment: dict[str, str], log: Path, sound: Sequence[Path], first: bool
) -> Turn:
    """Returns the seconds from the start of a process to its text.

    Before the first, a process is started that does not count, so that all files are in memory.
    """
    if first:
        with Worker(words, environment, log) as worker:
            _ask(worker, job, sound, 0)
    busy, start = busy_seconds(), perf_counter()
    with Worker(words, environment, log) as worker:
        answer = _ask(worker, job, sound, 0)
        seconds = perf_counter() - start
        disturbed = [share(busy_seconds() - busy - worker.cpu_seconds, seconds)]
        return _turn(worker, job, [_run([answer]) | {"seconds": seconds}], [answer], disturbed)


def _ask(worker: Worker, job: Job, sound: Sequence[Path], i: int) -> dict[str, Any]:
    """Returns what a worker answers for one recording. Raises WorkerError where it did something else."""
    mode, recording = job.task.mode, job.task.recordings[i]
    if mode == "window":
        answer: dict[str, Any] = worker.ask("window", file=str(sound[i]), n_tokens=TOKENS)
        if answer["tokens"] not in (None, TOKENS):
            raise WorkerError(f"gave {answer['tokens']} tokens instead of {TOKENS}")
        return answer
    answer = worker.ask("recording", file=str(sound[i]), language=recording.language, mode=mode)
    if mode == "words" and answer["text"].strip() and not answer["words"]:
        raise WorkerError(f"gave no times of words for {recording.file}")
    return answer


def _run(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the figures of one run over all recordings of a task."""
    alone = {key: answers[0][key] for key in ("encoder", "token") if key in answers[0]}
    return {"seconds": sum(answer["seconds"] for answer in answers), **alone}


def _turn(
    worker: Worker, job: Job, runs: list[dict[str, Any]], answers: Sequence[dict[str, Any]], disturbed: list[float]
) -> Turn:
    """Returns a turn, with the texts of its first run."""
    memory = worker.ask("peak_memory")  # before `about`, which may import more
    return {
        "runs": runs,
        "load": worker.load,
        "memory": memory,
        "disturbed": disturbed[0],
        "texts": [answer.get("text", "") for answer in answers],
        "about": worker.ask("about", mode=job.task.mode),
    }


@contextmanager
def disturbance(worker: Worker) -> Iterator[list[float]]:
    """Yields a list that receives, in the end, the share of the CPUs that all but the worker took meanwhile."""
    shares: list[float] = []
    start, before = perf_counter(), busy_seconds() - worker.cpu_seconds
    yield shares
    shares.append(share(busy_seconds() - worker.cpu_seconds - before, perf_counter() - start))


def share(busy: float, seconds: float) -> float:
    """Returns what CPU seconds are of all CPUs in a time; the clocks are coarse, and it is at least 0."""
    return max(0.0, busy / seconds / (os.cpu_count() or 1))
