"""The model that ships: real speech becomes its words, without any network."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import max_whisper
import pytest
from command import run
from conftest import ROOT
from max_whisper.runtime.decoding import TIME_PRECISION
from sounds import noise, silence

NANO = ROOT / "specs" / "nano"
AUDIO = ROOT / "examples" / "audio"
RECORDINGS = sorted(path.stem for path in AUDIO.glob("*.flac"))
WORDS = (NANO / "words.txt").read_text().split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return max_whisper.build("nano.yaml", out=tmp_path_factory.mktemp("nano") / "nano", offline=True)


@pytest.fixture(scope="module")
def nano(folder: Path) -> max_whisper.Model:
    return max_whisper.load(folder)


def transcribe(nano: max_whisper.Model, name: str) -> max_whisper.TranscriptionResult:
    """Each window for itself: the model never learned from prompts with timestamps in them (see its card)."""
    return nano.transcribe(AUDIO / f"{name}.flac", condition_on_previous_text=False)


def phrases(name: str) -> list[str]:
    return (AUDIO / f"{name}.txt").read_text().splitlines()


def test_there_are_recordings() -> None:
    assert RECORDINGS == ["commands", "countdown", "spelling"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_words(nano: max_whisper.Model, name: str) -> None:
    result = transcribe(nano, name)
    assert result.language == "en"
    assert result.text.split() == " ".join(phrases(name)).split()


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_segment_is_a_phrase(nano: max_whisper.Model, name: str) -> None:
    segments = transcribe(nano, name).segments
    assert [segment.text.strip() for segment in segments] == phrases(name)
    for before, after in pairwise(segments):
        assert before.start < before.end <= after.start
        assert after.start - before.end == pytest.approx(0.6, abs=0.25)  # the pause that make_recordings.py puts there


def test_the_command(folder: Path) -> None:
    outcome = run("transcribe", AUDIO / "commands.flac", "--model", folder)
    assert (outcome.code, outcome.stdout.split()) == (0, " ".join(phrases("commands")).split())


@pytest.mark.parametrize("sound", [silence(5.0), noise(5.0) * 0.1, noise(12.0) * 0.01], ids=["silence", "loud", "soft"])
def test_nothing_is_said(nano: max_whisper.Model, sound: object) -> None:
    assert nano.transcribe(sound).text.strip() == ""


def test_every_word_is_a_token(nano: max_whisper.Model) -> None:
    assert len(WORDS) == len(set(WORDS))
    for word in WORDS:
        assert len(nano.tokenizer.encode(f" {word}")) == 1, word


def test_a_window_is_ten_seconds(nano: max_whisper.Model) -> None:
    tokens = nano.manifest.tokens
    assert nano.n_frames == 1000
    assert tokens.n_timestamps == 501 == nano.manifest.dims["n_vocab"] - tokens.timestamp_begin
    assert tokens.max_initial_timestamp * TIME_PRECISION == 10


def test_size() -> None:
    assert (NANO / "model.safetensors").stat().st_size <= 6_000_000
