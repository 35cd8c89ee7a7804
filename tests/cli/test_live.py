"""`max-whisper live` as programs use it: files, pipes, standard input, and what is written at the end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import max_whisper
import numpy as np
import pytest
from conftest import ROOT
from max_whisper.runtime.output.writers import render
from max_whisper.runtime.results import TranscriptionResult
from support.command import error, run, spawn
from support.live import LiveRun
from support.sounds import encode, sweep, without_tag
from support.terminals import look

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")

AUDIO = ROOT / "examples" / "audio"
Said = Callable[[str], TranscriptionResult]


@pytest.fixture(scope="module")
def said(nano: max_whisper.Model, silero: Path) -> Said:
    """Returns what a stream finds in a recording of the examples."""

    def said(name: str) -> TranscriptionResult:
        stream = nano.stream()
        events = [*stream.feed(max_whisper.load_audio(AUDIO / f"{name}.flac")), *stream.finish()]
        segments = [event.segment for event in events if event.segment is not None]
        assert len(segments) > 3
        return TranscriptionResult("".join(s.text for s in segments), segments, stream.language, [], stream.seconds)

    return said


@pytest.fixture
def samples() -> bytes:
    """Returns a recording of the examples as s16le."""
    return (max_whisper.load_audio(AUDIO / "commands.flac") * 32768).astype("<i2").tobytes()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


def fast(model: Path, name: str = "commands") -> tuple[str | Path, ...]:
    """Returns the arguments for a recording that is replayed as fast as it is heard."""
    return AUDIO / f"{name}.flac", "--model", model, "--speed", "1000"


# --- a file


@pytest.mark.parametrize("name", ["commands", "countdown", "spelling"])
def test_a_line_for_each_phrase(nano_artifact: Path, said: Said, name: str) -> None:
    outcome = run("live", *fast(nano_artifact, name))
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, render(said(name), "txt"), "")


def test_files_hold_what_was_shown(nano_artifact: Path, said: Said) -> None:
    outcome = run("live", *fast(nano_artifact), "--output-format", "all", "--output-dir", "out")
    expected = said("commands")
    assert (outcome.code, outcome.stdout) == (0, render(expected, "txt"))
    assert outcome.stderr.splitlines() == [f"out/commands.{format}" for format in ("json", "srt", "tsv", "txt", "vtt")]
    for format in ("srt", "tsv", "txt", "vtt"):
        assert Path("out", f"commands.{format}").read_text() == render(expected, format)
    found = json.loads(Path("out/commands.json").read_text())
    assert found["text"] == expected.text and [s["words"][0]["start"] for s in found["segments"]]


def test_a_format_for_a_pipe_comes_at_the_end(nano_artifact: Path, said: Said) -> None:
    outcome = run("live", *fast(nano_artifact), "--output-format", "srt")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, render(said("commands"), "srt"), "")


def test_options_reach_the_stream(nano_artifact: Path) -> None:
    whole = run("live", *fast(nano_artifact), "--endpoints", "none").stdout
    assert len(whole.splitlines()) == 1
    patient = run("live", *fast(nano_artifact), "--vad-min-silence-duration-ms", "2000").stdout
    usual = run("live", *fast(nano_artifact)).stdout
    assert len(patient.splitlines()) < len(usual.splitlines()) and len(patient.split()) == len(usual.split())


def test_a_file_is_replayed_at_its_own_pace(nano_artifact: Path) -> None:
    with LiveRun(AUDIO / "commands.flac", "--model", nano_artifact) as live:
        live.wait_for("hello\n")
        assert "thanks" not in live.stdout  # which is said six seconds later
        live.interrupt()
        assert live.end().code == 130
    assert live.stderr == "error: stopped by Ctrl-C\n"


def test_an_interrupt_keeps_what_was_said(nano_artifact: Path) -> None:
    """An older file is not replaced by a part of the text."""
    Path("out").mkdir()
    Path("out/commands.txt").write_text("older")
    with LiveRun(AUDIO / "commands.flac", "--model", nano_artifact, "--output-dir", "out") as live:
        live.wait_for("open door\n")
        live.interrupt()
        assert live.end().code == 130
    said = Path("out/commands.partial.txt").read_text()
    assert said == live.stdout and said.startswith("hello\nopen door\n")
    assert Path("out/commands.txt").read_text() == "older"
    warning, file, end = live.stderr.splitlines()
    assert warning.startswith("warning: the text of ") and warning.endswith(" s of it were heard")
    assert (file, end) == ("out/commands.partial.txt", "error: stopped by Ctrl-C")


def test_sigterm_keeps_what_was_said(nano_artifact: Path) -> None:
    with LiveRun(AUDIO / "commands.flac", "--model", nano_artifact) as live:
        live.wait_for("hello\n")
        live.interrupt(signal.SIGTERM)
        assert live.end().code == 143
    assert live.stderr == "error: stopped by SIGTERM\n"


# --- standard input


def test_samples_from_a_pipe(nano_artifact: Path, said: Said, samples: bytes) -> None:
    outcome = spawn("live", "-", "--model", nano_artifact, input=samples)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, render(said("commands"), "txt"), "")


def test_a_fast_pipe_loses_nothing(nano_artifact: Path, samples: bytes) -> None:
    """More comes than may wait."""
    once = spawn("live", "-", "--model", nano_artifact, input=samples).stdout
    silence = bytes(32000 * 8)  # longer than what the model hears before a phrase
    outcome = spawn("live", "-", "--model", nano_artifact, input=(samples + silence * 2) * 4)
    assert (outcome.code, outcome.stderr) == (0, "") and outcome.stdout.count("hello") == 4
    assert len(outcome.stdout.splitlines()) == 4 * len(once.splitlines())


def test_samples_at_another_rate(nano_artifact: Path, said: Said) -> None:
    sound = max_whisper.load_audio(AUDIO / "commands.flac")
    doubled = np.repeat(sound, 2) * 32767
    options = ("--model", nano_artifact, "--sample-rate", "32000")
    outcome = spawn("live", "-", *options, input=doubled.astype("<i2").tobytes() + b"\0")
    assert (outcome.code, outcome.stdout) == (0, render(said("commands"), "txt"))


def test_files_of_standard_input_are_called_by_the_time(nano_artifact: Path, samples: bytes) -> None:
    for _ in range(2):
        assert spawn("live", "-", "--model", nano_artifact, "--output-dir", "out", input=samples).code == 0
    first, second = sorted(Path("out").iterdir())
    assert first.name.startswith("live-2") and first.read_text() == second.read_text() != ""


def test_no_sound(nano_artifact: Path) -> None:
    said = "standard input is empty, expected raw samples (s16le): check the command before the pipe"
    assert error(run("live", "-", "--model", nano_artifact, stdin=b"")) == said


@pytest.mark.parametrize(
    ("suffix", "codec", "kind"),
    [("flac", "flac", "a flac file"), ("mp3", "libmp3lame", "an mp3 file"), ("aac", "aac", "an aac file")],
)
def test_a_file_is_no_samples(nano_artifact: Path, tmp_path: Path, suffix: str, codec: str, kind: str) -> None:
    file = encode(tmp_path / f"sound.{suffix}", sweep(), codec=codec)
    said = f"standard input is {kind}, expected raw samples: ffmpeg -i FILE -f s16le -ac 1 -ar 16000 - writes them"
    assert error(run("live", "-", "--model", nano_artifact, stdin=without_tag(file.read_bytes()))) == said


def test_a_terminal_is_no_sound(nano_artifact: Path) -> None:
    seen = look("live", "-", "--model", nano_artifact, stdin="terminal")
    assert seen.code == 2 and "standard input is a terminal" in seen.said[0]


# --- outputs that take nothing


def test_the_reader_of_the_first_line(nano_artifact: Path) -> None:
    arguments = " ".join(map(str, fast(nano_artifact)))
    command = f"{sys.executable} -m max_whisper live {arguments} --output-dir out --output-format srt | head -1"
    with os.popen(f"({command}) 2>&1") as pipe:
        assert pipe.read().splitlines()[0] == "hello"
    srt = Path("out/commands.srt")
    if srt.exists():  # all came before the reader had ended
        assert "hello" in srt.read_text()


def test_a_reader_that_has_ended(nano_artifact: Path) -> None:
    seen = look("live", *fast(nano_artifact), stdout="gone")
    assert (seen.code, seen.said) == (1, [])


@pytest.mark.parametrize("stderr", ["pipe", "terminal"])
def test_a_full_disk(nano_artifact: Path, stderr: str) -> None:
    """The files are written all the same, and a terminal shows what the disk did not take."""
    options = ("--output-dir", "out", "--output-format", "srt")
    seen = look("live", *fast(nano_artifact), *options, stdout="full", stderr=stderr)
    assert seen.code == 1
    assert seen.said[-1].startswith("error: standard output cannot be written, there is no space left")
    (file,) = Path("out").iterdir()
    assert "hello" in file.read_text()
    assert ("hello" in seen.said) == (stderr == "terminal")


def test_a_full_disk_without_files(nano_artifact: Path) -> None:
    """A terminal shows also what is found behind the text that was refused."""
    seen = look("live", *fast(nano_artifact), stdout="full", stderr="terminal")
    assert seen.code == 1
    assert [line for line in (AUDIO / "commands.txt").read_text().splitlines() if line not in seen.said] == []


def test_a_full_disk_for_the_file(nano_artifact: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out").mkdir()
    Path("out/commands.srt").symlink_to("/dev/full")
    outcome = run("live", *fast(nano_artifact), "--output-dir", "out", "--output-format", "srt")
    expected = said("commands")
    assert outcome.code == 1 and "there is no space left" in outcome.stderr
    assert outcome.stdout == render(expected, "txt") + render(expected, "srt")


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x.wav", "--device", "1"), "--device: is for the microphone: leave it out, or the file"),
        (("x.wav", "--sample-rate", "8000"), "--sample-rate: is for sound from stdin: give - as well, or leave it out"),
        (("-", "--speed", "2"), "--speed: is for a file that is replayed: give one, or leave it out"),
        (("x.wav", "--speed", "0"), "--speed: expected 0.1 to 1000, got 0.0"),
        (("x.wav", "--hold-back", "11"), "--hold-back: expected 0 to 10 seconds, got 11.0"),
        (
            ("x.wav", "--max-line-count", "2"),
            "--max-line-count: needs --max-line-width, as lines are not cut without it",
        ),
        (
            ("x.wav", "--output-format", "all"),
            "--output-format all writes several files: give a folder for them with --output-dir",
        ),
        (("x.wav",), "there is no file x.wav"),
    ],
)
def test_a_mistake_is_one_sentence(nano_artifact: Path, arguments: tuple[str, ...], said: str) -> None:
    assert error(run("live", *arguments, "--model", nano_artifact)).startswith(said)


def test_the_recording_is_kept(nano_artifact: Path) -> None:
    Path("talk.txt").write_bytes((AUDIO / "commands.flac").read_bytes())
    said = error(run("live", "talk.txt", "--model", nano_artifact, "--output-dir", "."))
    assert said.startswith("talk.txt would be overwritten")
