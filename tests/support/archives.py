"""Makes archives of many recordings, runs batches in processes that can be killed, and reads what these wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import max_whisper
import msgspec
import numpy as np
from conftest import ROOT
from pyarrow import parquet
from support.sounds import write_wav

AUDIO = ROOT / "examples" / "audio"
RATE = 16_000
PROGRAM = """
import json, sys
import max_whisper
from max_whisper.batch import checkpoints, journal

arguments = json.loads(sys.argv[1])
journal.MAX_ROWS = arguments.pop("max_rows")
add = checkpoints.Checkpoints.add

def told(self, key, window):
    add(self, key, window)
    print("window", key, flush=True)

checkpoints.Checkpoints.add = told
summary = max_whisper.transcribe_archive(**arguments)
print("summary", json.dumps([summary.done, summary.skipped, summary.failed, summary.audio_seconds]), flush=True)
"""
"""Runs a batch, and says when each window is kept."""


def write_clips(folder: Path, seconds: Sequence[float], seed: int = 0) -> list[Path]:
    """Writes recordings of the phrases that whisper-nano knows, no two of which are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    sound = np.concatenate([max_whisper.load_audio(file) for file in sorted(AUDIO.glob("*.flac"))])
    begins = np.random.default_rng(seed).integers(0, len(sound), len(seconds))
    paths = []
    for number, (begin, length) in enumerate(zip(begins, seconds, strict=True)):
        samples = np.resize(np.roll(sound, -begin), round(length * RATE))
        paths.append(write_wav(folder / f"clip-{number:03}.wav", samples))
    return paths


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Returns the rows in the parts of a folder."""
    rows = [row for part in sorted(out.glob("part-*.parquet")) for row in parquet.read_table(part).to_pylist()]
    lines = [line for part in sorted(out.glob("part-*.jsonl")) for line in part.read_bytes().splitlines()]
    return rows + [msgspec.json.decode(line) for line in lines]


def by_key(out: Path) -> dict[str, dict[str, Any]]:
    """Returns the rows of a folder by their keys; fails where one is there twice."""
    rows = rows_of(out)
    keys = {row["key"]: row for row in rows}
    assert len(keys) == len(rows)
    return keys


class Process:
    """A batch in a process of its own, at the head of a group with its workers."""

    def __init__(self, max_rows: int = 20_000, **arguments: Any) -> None:
        arguments = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(arguments | {"max_rows": max_rows})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Ends the process and its workers as a machine does that runs out of memory."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def line(self) -> str:
        """Returns the next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, timeout: float = 120) -> tuple[Mapping[str, float], list[str]]:
        """Waits for the end, and returns the summary, and the keys of the windows that were transcribed."""
        stdout, stderr = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, stderr
        *windows, summary = stdout.splitlines()
        counts = json.loads(summary.removeprefix("summary "))
        names = ("done", "skipped", "failed", "audio_seconds")
        return dict(zip(names, counts, strict=True)), [line.removeprefix("window ") for line in windows]
