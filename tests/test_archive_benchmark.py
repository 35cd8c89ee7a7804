"""Tests `benchmarks.archive`: what it measures of programs, its figures, and a run with a small model."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import max_whisper
import pytest
from click.testing import CliRunner
from conftest import ROOT
from max_whisper.artifact.cores import usable_cores

from benchmarks.archive.__main__ import main
from benchmarks.archive.figures import errors, side_figures, table
from benchmarks.archive.growth import Hours
from benchmarks.archive.growth import main as growth
from benchmarks.archive.processes import ProgramError, run
from benchmarks.archive.recordings import Said, make_hour, read_manifest

AUDIO = ROOT / "examples" / "audio"
PATIENCE = 60
"""The seconds after which a program gives up that nobody has looked at."""
HOLDS = "data = bytearray(b'x') * (40 << 20)"
WAITS = f"""
import sys, time
from pathlib import Path
{HOLDS}
end = time.monotonic() + {PATIENCE}
while not (seen := Path(sys.argv[1]).exists()) and time.monotonic() < end:
    time.sleep(0.01)
sys.exit(not seen)
"""
STARTS = f"import subprocess, sys; {HOLDS}; sys.exit(subprocess.call([sys.executable, '-c', {WAITS!r}, sys.argv[1]]))"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Returns a folder of two recordings with texts, one that is broken, and their manifest."""
    folder = tmp_path / "speech"
    folder.mkdir()
    lines = ["file\tlanguage\tseconds\tkind\ttext"]
    for name, seconds in (("commands", 8.3), ("spelling", 17.2)):
        shutil.copy(AUDIO / f"{name}.flac", folder)
        words = " ".join((AUDIO / f"{name}.txt").read_text().split())
        lines.append(f"{name}.flac\ten\t{seconds}\tclean\t{words}")
    (folder / "broken.flac").write_text("no sound")
    lines += ["broken.flac\tzxx\t1.0\tnonspeech\t", "other.flac\tde\t1.0\tclean\tHallo"]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_memory_is_that_of_all_processes(tmp_path: Path) -> None:
    looks: list[float] = []

    def watch(mb: float) -> None:
        looks.append(mb)
        if mb > 80:
            (tmp_path / "seen").touch()  # which the program waits for

    cost = run([sys.executable, "-c", STARTS, tmp_path / "seen"], os.environ, tmp_path / "log", watch=watch)
    assert 80 < cost.peak_mb < 120 and cost.processes == 2
    assert max(looks) == cost.peak_mb


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"^ended with status 3: no luck \(more in .*log\)$"):
        run([sys.executable, "-c", "print('no luck'); raise SystemExit(3)"], os.environ, tmp_path / "log")
    run([sys.executable, "-c", "raise SystemExit(1)"], os.environ, tmp_path / "log", statuses=(0, 1))


def test_an_hour_repeats_recordings(speech: Path, tmp_path: Path) -> None:
    said = read_manifest(speech, ["en"])
    assert [one.file for one in said] == ["commands.flac", "spelling.flac", "broken.flac"]
    assert len(read_manifest(speech, ["en", "de"])) == 4
    hour = make_hour(said, speech, tmp_path / "hour.flac", 30.0, first=1)
    assert hour.text == " ".join([said[1].text, said[0].text, said[1].text])
    assert len(max_whisper.load_audio(tmp_path / "hour.flac")) / 16000 == pytest.approx(hour.seconds, abs=0.01)
    assert 30 < hour.seconds < 30 + 18


def test_figures() -> None:
    said = [Said("a", 1800.0, "en", "the cat sat down"), Said("b", 1800.0, "zh", "一二"), Said("c", 0.0, "zxx", "")]
    texts = {"a": "the cat sad", "b": "一二", "c": None}
    wrong = errors(said, texts)
    assert (wrong["words"].rate, wrong["characters"].rate) == (0.5, 0.0)
    turns = [{"x": {"seconds": s, "peak_mb": s, "processes": 1}, "y": {"seconds": 60.0}} for s in (20.0, 60.0, 30.0)]
    figures = side_figures("x", turns, said, texts)
    assert figures["seconds"] == {"median": 30.0, "low": 20.0, "high": 60.0}
    assert (figures["hours_per_hour"], figures["peak_mb"], figures["failed"]) == (120.0, 60.0, ["c"])
    assert figures["times_as_fast_as"] == {"y": {"median": 2.0, "low": 1.0, "high": 3.0}}
    assert table("", [figures]).row_count == 1


def test_a_small_archive(nano_artifact: Path, speech: Path, tmp_path: Path) -> None:
    options = ["--speech", str(speech), "--work", str(tmp_path), "--threads", str(len(usable_cores()))]
    options += ["--turns", "2", "--seconds", "40", "--workers", "1"]
    result = CliRunner().invoke(main, [str(nano_artifact), *options, "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    tasks = json.loads((tmp_path / "figures.json").read_text())["tasks"]
    for task, failed in (("recordings", ["broken.flac"]), ("hour", [])):
        assert [side["name"] for side in tasks[task]] == ["one by one", "max-whisper batch --workers 1"]
        for side in tasks[task]:
            assert side["failed"] == failed and side["words_wrong"] < 0.2 and side["peak_mb"] > 50


def test_looks_are_sorted_into_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = tmp_path / "work" / "part-00000.jsonl"
    part.parent.mkdir()
    hours = Hours(tmp_path)
    for mb, ended in ((1, 0), (5, 0), (3, 0), (7, 1), (9, 1), (4, 3), (6, 3), (2, 4)):
        part.write_text("{}\n" * ended)
        hours.look(mb)
    assert hours.looks == [[1, 5, 3], [7, 9], [], [4, 6], [2]]
    assert hours.medians() == [3, 8, 5, 2]
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{hour:3} hours {mb:8.1f} MB" for hour, mb in ((1, 3), (2, 8), (3, 4), (4, 5))]


def test_memory_over_hours(nano_artifact: Path, speech: Path, tmp_path: Path) -> None:
    options = ["--speech", str(speech), "--work", str(tmp_path), "--threads", str(len(usable_cores())), "--hours", "4"]
    for seconds in (120, 960, 7680):  # until the machine is slow enough to be seen
        result = CliRunner().invoke(growth, [str(nano_artifact), *options, "--seconds", str(seconds)])
        if "too soon" not in result.output:
            break
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("4 hours added ")
