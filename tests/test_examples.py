"""The short programs of examples/ and the README's, run with the model that ships."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

EXAMPLES = ROOT / "examples"
RECORDING = EXAMPLES / "audio" / "commands.flac"
MAKERS = {"make_recordings"}  # needs espeak-ng


def run(name: str, *arguments: object) -> list[str]:
    """Runs an example as its first lines say; returns the lines that it prints."""
    command = [sys.executable, EXAMPLES / f"{name}.py", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_example_is_run_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested | MAKERS


def test_transcribe(nano_artifact: Path) -> None:
    lines = run("transcribe", nano_artifact, RECORDING)
    assert [line.split("  ")[-1] for line in lines] == RECORDING.with_suffix(".txt").read_text().splitlines()


def test_logits(nano_artifact: Path) -> None:
    lines = run("logits", nano_artifact, RECORDING)
    assert len(lines) == 5 and lines[0].endswith("' hello'")


def test_subtitles(nano_artifact: Path, tmp_path: Path) -> None:
    lines = run("subtitles", nano_artifact, RECORDING, tmp_path / "out.srt")
    assert re.fullmatch(r"([0-9.]+) of \1 seconds", lines[-1])
    assert "open door" in (tmp_path / "out.srt").read_text()


def test_the_program_of_the_readme(
    nano_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    program = program.replace('"tiny.yaml", weights="openai/whisper-tiny"', '"nano.yaml", offline=True')
    monkeypatch.chdir(tmp_path)
    Path("speech.flac").write_bytes(RECORDING.read_bytes())
    Path("program.py").write_text(program)
    made = runpy.run_path("program.py")
    assert made["windows"].shape == (1, 80, 1000) and made["features"].shape == (1, 500, 128)
    assert made["logits"].shape == (1, len(made["model"].prompt(language="en")), 1205)
    assert made["result"].text == "hello open door stop go left thanks"
    assert capsys.readouterr().out.split()[:2] == ["hello", "open"]
