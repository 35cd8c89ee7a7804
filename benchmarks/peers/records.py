"""The cache of results: a JSON file for each engine, variant, task and setting, written after each turn."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.common import machine
from benchmarks.peers.engines import ENGINES, OURS, Variant
from benchmarks.peers.tasks import Task

ROOT = Path(__file__).parents[2]
"""The repository, in which every engine's process finds `benchmarks`."""
MEASURED_CODE = ("kernels", *(f"compiler/max_whisper/{part}" for part in ("lowering", "runtime", "tensors")))
"""What the times of max-whisper depend on."""

Record = dict[str, Any]
"""One engine's results: what was measured, its identity, and a list of turns."""


@dataclass(frozen=True)
class Job:
    """One engine in one variant, with one task on one checkpoint."""

    engine: str
    variant: Variant
    task: Task
    checkpoint: Path

    @property
    def label(self) -> str:
        """The name in tables and messages."""
        return f"{ENGINES[self.engine].label} {self.variant.name}"

    def __str__(self) -> str:
        return f"{self.label}, {self.checkpoint.name}, {self.task}"

    def file(self, work: Path) -> Path:
        """Returns the file of its record."""
        task = self.task
        folder = work / "results" / self.checkpoint.name / f"{task.setting}-{task.name}-{task.mode}"
        return folder / f"{self.engine}-{self.variant.name}.json"

    def identity(self, threads: int, digest: str) -> dict[str, Any]:
        """Returns what must be the same for figures to be of one record; `digest` is that of the checkpoint."""
        engine = ENGINES[self.engine]
        return {
            "pins": [list(choice) for choice in (*engine.pip, engine.converter)],
            "code": measured_code() if engine.label == OURS else "",
            "checkpoint": digest,
            "machine": machine(),
            "threads": threads,
            "task": self.task.facts(),
        }


def opened(job: Job, work: Path, identity: dict[str, Any]) -> Record:
    """Returns the record of a job: the one that is there if it has the same identity, or else one without turns."""
    file = job.file(work)
    if file.exists():
        record: Record = json.loads(file.read_text())
        if record["identity"] == identity:
            return record
    return {
        "engine": job.engine,
        "variant": job.variant.name,
        "about": job.variant.about,
        "checkpoint": job.checkpoint.name,
        "identity": identity,
        "turns": [],
    }


def save(record: Record, file: Path) -> None:
    """Writes a record beside its place and moves it there, so that an interrupt leaves the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    new.rename(file)


def all_records(work: Path) -> Iterator[Record]:
    """Yields every record that has a turn, by its place."""
    for file in sorted((work / "results").glob("*/*/*.json")):
        record = json.loads(file.read_text())
        if record["turns"]:
            yield record


@cache
def digest(checkpoint: Path) -> str:
    """Returns the sha256 of a checkpoint's weights."""
    found = hashlib.sha256()
    with (checkpoint / "model.safetensors").open("rb") as file:
        while chunk := file.read(1 << 24):
            found.update(chunk)
    return found.hexdigest()


@cache
def measured_code() -> str:
    """Returns git's names for the code that runs in max-whisper, and for what is not committed of it."""
    names = _git("rev-parse", *(f"HEAD:{path}" for path in MEASURED_CODE))
    changes = _git("diff", "HEAD", "--", *MEASURED_CODE)
    return hashlib.sha256((names + changes).encode()).hexdigest()[:16]


def commit() -> str:
    """Returns the commit of this checkout, with a mark if files were changed since."""
    return _git("describe", "--always", "--dirty").strip()


def _git(*words: str) -> str:
    """Returns what git prints, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    except OSError:
        return ""
    return done.stdout
