"""Runs the programs of examples/ and that of the README with the model that ships, and checks what they print."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import max_whisper
import numpy as np
import pytest
from conftest import ROOT
from support.sounds import write_wav

EXAMPLES = ROOT / "examples"
RECORDING = EXAMPLES / "audio" / "commands.flac"
PHRASES = RECORDING.with_suffix(".txt").read_text().splitlines()
NOT_RUN = {"make_recordings": "needs espeak-ng", "layer_scale": "is a module of own_spec/build.py"}


def run(name: str, *arguments: object, timeout: float = 60, code: int = 0) -> list[str]:
    """Runs an example as its docstring says; returns the lines that it prints."""
    command = [sys.executable, EXAMPLES / f"{name}.py", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


def examples() -> dict[str, str]:
    """Returns the text of each example but those of train_nano, which take an hour and need PyTorch."""
    files = [path for path in EXAMPLES.rglob("*.py") if path.parent.name != "train_nano"]
    return {path.relative_to(EXAMPLES).with_suffix("").as_posix(): path.read_text() for path in files}


def test_every_example_is_run_here() -> None:
    tested = set(re.findall(r'run\("([\w/]+)"', Path(__file__).read_text()))
    assert {name for name in examples() if name.split("/")[-1] not in NOT_RUN} == tested


@pytest.mark.parametrize("name", examples())
def test_an_example_is_short_and_says_how_it_is_run(name: str) -> None:
    text = examples()[name]
    if name.split("/")[-1] not in NOT_RUN:
        assert len(text.splitlines()) <= 45
        assert f"\npython examples/{name}.py " in text


def test_transcribe(nano_artifact: Path) -> None:
    lines = run("transcribe", nano_artifact, RECORDING)
    assert [line.split("  ")[-1] for line in lines] == PHRASES


def test_windows(nano_artifact: Path) -> None:
    lines = run("windows", nano_artifact, EXAMPLES / "audio" / "spelling.flac")
    windows = [i for i, line in enumerate(lines) if re.fullmatch(r"-- until [0-9.]+ of 17.2 s", line)]
    assert len(windows) == 2 and windows[0] == 0
    texts = [line.split("  ")[-1] for line in lines if not line.startswith("--")]
    assert texts == (EXAMPLES / "audio" / "spelling.txt").read_text().splitlines()
    assert lines[-1] == f"-- {len(texts)} segments, language 'en'"


def test_stream(nano_artifact: Path, silero: Path) -> None:
    lines = run("stream", nano_artifact, RECORDING)
    finals = [line.split("final", 1)[1].strip() for line in lines if " final " in line]
    assert " ".join(finals).split() == " ".join(PHRASES).split()
    assert any(" confirmed " in line for line in lines) and any(" hypothesis " in line for line in lines)


def test_batch(nano_artifact: Path, tmp_path: Path) -> None:
    good, bad = Path(shutil.copy(RECORDING, tmp_path)), tmp_path / "broken.flac"
    bad.write_text("no sound")
    lines = run("batch", nano_artifact, tmp_path / "texts", bad, good, code=1)
    assert len(lines) == 2 and "commands.flac: done" in lines
    assert any(line.startswith("broken.flac: ") and "expected" in line for line in lines)
    assert (tmp_path / "texts" / "commands.flac.txt").read_text().split() == " ".join(PHRASES).split()


def test_ray_archive(nano_artifact: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("ray.data")
    (tmp_path / "in").mkdir()
    shutil.copy(RECORDING, tmp_path / "in")
    (tmp_path / "in" / "broken.flac").write_text("no sound")
    run("ray_archive", nano_artifact, tmp_path / "in", tmp_path / "out", timeout=180)
    bad, good = parquet.read_table(tmp_path / "out").sort_by("path").to_pylist()
    assert good["text"].split() == " ".join(PHRASES).split() and good["error"] is None
    assert "broken.flac" in bad["error"] and bad["text"] is None


def test_archive(nano_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(RECORDING, tmp_path / "in")
    assert run("archive", nano_artifact, tmp_path / "in", tmp_path / "out") == [
        "1 done, 0 done before, 0 failed",
        f"commands.flac:  {' '.join(PHRASES)}",
    ]
    assert run("archive", nano_artifact, tmp_path / "in", tmp_path / "out")[0] == "0 done, 1 done before, 0 failed"


@pytest.mark.parametrize(("patience", "end"), [(60, "done"), (0, "cancelled")])
def test_cancel(nano_artifact: Path, tmp_path: Path, patience: float, end: str) -> None:
    waveform = np.tile(max_whisper.load_audio(RECORDING), 40)  # 30 windows
    *windows, last = run("cancel", nano_artifact, write_wav(tmp_path / "long.wav", waveform), patience)
    assert last.startswith(f"{end}: ") and (len(windows) >= 29) == (end == "done")


def test_detect_language(nano_artifact: Path) -> None:
    assert run("detect_language", nano_artifact, RECORDING) == ["100.0%  en", " ".join(PHRASES)]


def test_logits(nano_artifact: Path) -> None:
    lines = run("logits", nano_artifact, RECORDING)
    assert len(lines) == 5 and lines[0].endswith("' hello'")


def test_subtitles(nano_artifact: Path, tmp_path: Path) -> None:
    lines = run("subtitles", nano_artifact, EXAMPLES / "audio" / "spelling.flac", tmp_path / "out.srt")
    assert re.fullmatch(r"([0-9.]+) of \1 seconds", lines[-1])
    first, second = (tmp_path / "out.srt").read_text().split("\n\n")[:2]
    assert first.startswith("1\n00:00:00,") and len(first.splitlines()) == 2 + 2 and "alfa bravo" in first
    assert max(map(len, second.splitlines())) <= 42


def test_fine_tune(tmp_path: Path) -> None:
    lines = run("fine_tune", "nano.yaml", ROOT / "specs" / "nano", RECORDING, tmp_path)
    texts = [line.split(":")[1].strip() for line in lines]
    assert texts == [" ".join(PHRASES), " ".join(PHRASES).replace("left", "right")]


def test_own_spec(tmp_path: Path) -> None:
    """Compiles a model where that is not in the cache, which takes longer than the example's own minute."""
    table = "\n".join(run("own_spec/build", tmp_path / "slim", timeout=600))
    assert "slim, layer by layer" in table and "encoder.residual[1].layer_scale" in table
    model = max_whisper.load(tmp_path / "slim")
    assert model.windows(RECORDING).shape == (4, 80, 200)
    assert model.transcribe(RECORDING, temperature=0.0, max_new_tokens=3).windows  # nothing to read in it


def test_the_program_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    program = program.replace('"tiny.yaml", weights="openai/whisper-tiny"', '"nano.yaml", offline=True')
    monkeypatch.chdir(tmp_path)
    Path("speech.flac").write_bytes(RECORDING.read_bytes())
    Path("program.py").write_text(program)
    made = runpy.run_path("program.py")
    assert made["windows"].shape == (1, 80, 1000) and made["features"].shape == (1, 500, 128)
    assert made["logits"].shape == (1, len(made["model"].prompt(language="en")), 1205)
    assert made["result"].text == " ".join(PHRASES)
    assert capsys.readouterr().out.split()[:2] == ["hello", "open"]
