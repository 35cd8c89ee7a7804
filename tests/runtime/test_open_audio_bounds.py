"""Tests what a server needs of `open_audio`: a bound of seconds, a name for messages, and an end from outside."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from max_whisper import Model, open_audio
from max_whisper.errors import AudioError, Cancelled
from max_whisper.options import OptionError
from max_whisper.runtime.audio import isolation
from max_whisper.runtime.audio.decoding import Request
from support.sounds import sweep, write_wav

COMMANDS = ROOT / "examples" / "audio" / "commands.flac"


@pytest.mark.parametrize("isolated", [False, True])
def test_the_longest_audio(tmp_path: Path, isolated: bool) -> None:
    path = write_wav(tmp_path / "a.wav", sweep(3.0))
    assert len(open_audio(path, isolated=isolated, max_seconds=3)) == 48000
    with pytest.raises(AudioError, match=r"^my file is longer than 2.5 seconds: cut it into shorter files$"):
        open_audio(path, isolated=isolated, max_seconds=2.5, name="my file")


@pytest.mark.parametrize("isolated", [False, True])
def test_a_name_for_messages(isolated: bool) -> None:
    with pytest.raises(AudioError, match=r"^the upload\\x1b "):
        open_audio(io.BytesIO(b"no sound at all" * 100), isolated=isolated, name="the upload\x1b")


@pytest.mark.parametrize("isolated", [False, True])
def test_it_can_be_stopped(tmp_path: Path, isolated: bool) -> None:
    path = write_wav(tmp_path / "a.wav", sweep(600.0))
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 3

    with pytest.raises(Cancelled):
        open_audio(path, isolated=isolated, stop=stop)
    assert calls < 10


def test_a_child_that_gives_nothing_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tmp_path / "child.py"
    silent.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(isolation, "CHILD", silent)
    began = time.monotonic()
    with pytest.raises(Cancelled):
        open_audio(COMMANDS, isolated=True, stop=lambda: time.monotonic() - began > 0.5)
    assert time.monotonic() - began < 5


def test_what_it_returned_can_be_transcribed(nano: Model) -> None:
    recording = open_audio(COMMANDS, isolated=True)
    assert nano.transcribe(recording) == nano.transcribe(COMMANDS)
    assert np.array_equal(nano.windows(recording), nano.windows(COMMANDS))
    with pytest.raises(OptionError, match="audio_track: is for files"):
        nano.transcribe(recording, audio_track=0)


def test_the_process_that_decodes_gets_no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file may take it over, and would read them in its environment."""
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    monkeypatch.setenv("MAX_WHISPER_API_KEY", "a-secret")
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file, isolation._child(file, Request("file", "", None)) as child:
        until = time.monotonic() + 5
        while not (environment := Path(f"/proc/{child.pid}/environ").read_bytes()):  # not there yet on a busy machine
            assert time.monotonic() < until
        names = {line.partition(b"=")[0] for line in environment.split(b"\0")}
    assert b"OPENBLAS_NUM_THREADS" in names
    assert names <= {b"", b"OPENBLAS_NUM_THREADS", *(name.encode() for name in isolation.VARIABLES)}
