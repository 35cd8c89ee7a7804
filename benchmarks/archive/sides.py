"""The ways in which an archive is transcribed: a command for each, and the texts that it leaves."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.archive.processes import Cost, run
from benchmarks.peers.records import ROOT, digest
from benchmarks.peers.setup import SetupError, convert, interpreter, variables

ONE_BY_ONE, BATCH, PEER = "one by one", "max-whisper batch", "faster-whisper"
GREEDY = ("--temperature", "0", "--temperature-increment-on-fallback", "none", "--no-condition-on-previous-text")
"""The options of `max-whisper batch` with which it does what the others do."""
ENGINE = "faster_whisper"

Texts = dict[str, str | None]
"""The text of each recording by the name of its file; None for one that failed."""


@dataclass(frozen=True)
class Side:
    """One way to transcribe the recordings of a folder.

    Attributes:
        name: Its name in tables.
        command: Returns its command line, given the folder and a path that does not exist yet, for its results.
        texts: Returns the texts of its results.
        environment: Its variables.
        statuses: The exit statuses after which there are results: 1 stands for recordings that failed.
    """

    name: str
    command: Callable[[Path, Path], list[str | Path]]
    texts: Callable[[Path], Texts]
    environment: Mapping[str, str]
    statuses: tuple[int, ...] = (0,)

    def run(self, folder: Path, out: Path, watch: Callable[[float], None] = lambda mb: None) -> tuple[Cost, Texts]:
        """Transcribes a folder. Raises ProgramError."""
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        cost = run(self.command(folder, out), self.environment, out.with_suffix(".log"), self.statuses, watch)
        return cost, self.texts(out)


def one_by_one(artifact: Path) -> Side:
    """Returns `Model.transcribe` in one process, one recording after the other."""
    words = [sys.executable, "-m", "benchmarks.archive.workers.one_by_one", artifact]
    return Side(ONE_BY_ONE, lambda folder, out: [*words, folder, out], _read_texts, variables(Path(sys.executable)))


def batch(artifact: Path, workers: str) -> Side:
    """Returns `max-whisper batch` with a number of workers, or "auto".

    The first run of auto measures which number is the fastest, and keeps what it found for those that follow.
    """

    def command(folder: Path, out: Path) -> list[str | Path]:
        words = [sys.executable, "-m", "max_whisper", "batch", folder, "--model", artifact, "--out", out]
        return [*words, "--format", "jsonl", "--workers", workers, *GREEDY]

    return Side(f"{BATCH} --workers {workers}", command, read_parts, os.environ, (0, 1))


def faster_whisper(checkpoint: Path, work: Path, threads: int, size: int) -> Side:
    """Returns faster-whisper's batched pipeline, int8, after making what it needs, as `benchmarks.peers` does.

    Raises click.ClickException where that fails.
    """
    models = work / "models" / f"{checkpoint.name}-{digest(checkpoint)[:8]}" / ENGINE
    try:
        python = interpreter(ENGINE, work)
        convert(ENGINE, work, checkpoint, models)
    except SetupError as error:
        raise click.ClickException(f"{PEER}: {error}") from None
    words = [python, "-m", "benchmarks.archive.workers.faster_whisper_batched", models / "model", threads, size]
    environment = variables(python) | {"PYTHONPATH": str(ROOT)}
    return Side(f"{PEER} batch {size}", lambda folder, out: [*map(str, words), folder, out], _read_texts, environment)


def read_parts(out: Path) -> Texts:
    """Returns the texts of the parts in JSON lines that `max-whisper batch` wrote, a recording a line."""
    lines = [line for part in sorted(out.glob("part-*.jsonl")) for line in part.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    return {Path(row["path"]).name: row["text"] for row in rows}


def _read_texts(out: Path) -> Texts:
    texts: Texts = json.loads(out.read_text())
    return texts
