"""Runs that are killed: every recording has its row, once, and the rows are those of a run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from max_whisper.batch.checkpoints import read_windows
from support.archives import Process, by_key, write_clips

KILLS = 30


def workers(run: Process) -> list[int]:
    """Returns the workers of a run."""
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    return [int(child) for child in children if "max_whisper.batch.worker" in command(int(child))]


def command(process: int) -> str:
    """Returns the command of a process; "" for one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def kill_at_a_new_window(run: Process, state: Path, before: int) -> int:
    """Kills the worker of a run, another than `before`, when it has sent a window; returns its number."""

    def size() -> int:
        return max((file.stat().st_size for file in state.glob("*.windows")), default=0)

    kept = size()
    until(lambda: size() > kept and workers(run) and workers(run) != [before])
    (worker,) = workers(run)
    os.kill(worker, signal.SIGKILL)
    until(lambda: worker not in workers(run))
    time.sleep(0.1)  # what it had sent is kept
    return worker


def until(condition: Callable[[], object]) -> None:
    """Waits until a function returns something true; fails after a while."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with 90 short recordings and a long one."""
    folder = tmp_path_factory.mktemp("archive")
    lengths = np.random.default_rng(1).uniform(3, 15, 90)
    write_clips(folder, [*lengths, 400.0])
    return folder


@pytest.fixture(scope="module")
def undisturbed(archive: Path, nano_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Returns the rows of a run that nobody disturbed, by their keys."""
    out = tmp_path_factory.mktemp("undisturbed")
    summary, _ = Process(inputs=archive, model=nano_artifact, out=out, workers=2).end()
    assert summary["done"] == 91
    return by_key(out)


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_runs_that_are_killed_lose_nothing_and_repeat_nothing(
    format: str, archive: Path, nano_artifact: Path, undisturbed: dict[str, dict], tmp_path: Path
) -> None:
    """Kills the processes at KILLS random moments: while they start, transcribe, write parts, and remove journals."""
    moments = random.Random(f"seed {format}")
    arguments = {"inputs": archive, "model": nano_artifact, "out": tmp_path / "out", "format": format}
    for _ in range(KILLS // 2):
        run = Process(max_rows=7, workers=2, **arguments)
        time.sleep(moments.uniform(0.3, 1.5))
        run.kill()
        by_key(tmp_path / "out")  # nor is a key there twice at any time
    summary, windows = Process(max_rows=7, workers=2, **arguments).end()
    assert summary["done"] + summary["skipped"] == 91 and summary["failed"] == 0
    assert len({*windows}) <= summary["done"]
    assert by_key(tmp_path / "out") == undisturbed
    assert {path.name for path in (tmp_path / "out" / ".batch").iterdir()} == {"lock", "kind.json", "index"}


def test_a_long_recording_goes_on_behind_its_last_window(nano_artifact: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "in", [300.0])
    arguments = {"inputs": tmp_path / "in", "model": nano_artifact, "workers": 1, "word_timestamps": True}
    whole, all_windows = Process(out=tmp_path / "whole", **arguments).end()
    assert len(all_windows) >= 30
    run = Process(out=tmp_path / "out", **arguments)
    for _ in range(10):
        assert run.line().startswith("window ")
    run.kill()
    (kept,) = (tmp_path / "out" / ".batch").glob("*.windows")
    with kept.open("ab") as file:
        file.write(b"\x40\x00\x00\x00torn")
    done = read_windows(kept)
    assert 10 <= len(done) < len(all_windows)
    summary, windows = Process(out=tmp_path / "out", **arguments).end()
    assert len(done) + len(windows) == len(all_windows)
    assert summary["audio_seconds"] == pytest.approx(whole["audio_seconds"] - done[-1].end)
    assert by_key(tmp_path / "out") == by_key(tmp_path / "whole")
    assert not kept.exists()


def test_a_worker_that_is_killed_loses_nothing(
    archive: Path, nano_artifact: Path, undisturbed: dict[str, dict], tmp_path: Path
) -> None:
    run = Process(inputs=archive, model=nano_artifact, out=tmp_path / "out", workers=2)
    for _ in range(6):
        assert run.line().startswith("window ")
    os.kill(workers(run)[0], signal.SIGKILL)
    summary, _ = run.end()
    assert summary["done"] == 91 and summary["failed"] == 0
    assert by_key(tmp_path / "out") == undisturbed


def test_a_recording_whose_worker_dies_twice_is_a_row_with_an_error(nano_artifact: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "in", [900.0])
    run = Process(inputs=tmp_path / "in", model=nano_artifact, out=tmp_path / "out", workers=1)
    first = kill_at_a_new_window(run, tmp_path / "out" / ".batch", 0)
    kill_at_a_new_window(run, tmp_path / "out" / ".batch", first)
    summary, _ = run.end()
    assert summary["failed"] == 1
    (row,) = by_key(tmp_path / "out").values()
    assert "the process that transcribed it ended 2 times (SIGKILL" in row["error"] and row["text"] is None


def test_workers_end_with_their_parent(archive: Path, nano_artifact: Path, tmp_path: Path) -> None:
    run = Process(inputs=archive, model=nano_artifact, out=tmp_path / "out", workers=2)
    assert run.line().startswith("window ")
    orphans = workers(run)
    assert len(orphans) == 2
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.communicate()
    until(lambda: not any("worker" in command(orphan) for orphan in orphans))


def test_one_run_at_a_time_writes_to_a_folder(archive: Path, nano_artifact: Path, tmp_path: Path) -> None:
    run = Process(inputs=archive, model=nano_artifact, out=tmp_path / "out", workers=1)
    assert run.line().startswith("window ")
    other = Process(inputs=archive, model=nano_artifact, out=tmp_path / "out", workers=1)
    _, error = other.process.communicate(timeout=60)
    assert other.process.returncode == 1 and "another run writes to it; wait for its end" in error
    run.kill()
