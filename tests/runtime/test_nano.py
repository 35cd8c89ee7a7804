"""The model that ships: real speech becomes its words, without any network."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import max_whisper
import pytest
from conftest import ROOT
from max_whisper.tokens import TIME_PRECISION
from support.command import run
from support.sounds import noise, silence

NANO = ROOT / "specs" / "nano"
AUDIO = ROOT / "examples" / "audio"
RECORDINGS = sorted(path.stem for path in AUDIO.glob("*.flac"))
WORDS = (NANO / "words.txt").read_text().split()


def transcribe(nano: max_whisper.Model, name: str, **options: bool) -> max_whisper.TranscriptionResult:
    return nano.transcribe(AUDIO / f"{name}.flac", **options)


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


@pytest.mark.parametrize("name", ["commands", "spelling"])  # not countdown: see the model card
def test_words_are_said_within_their_phrases(nano: max_whisper.Model, name: str) -> None:
    plain = transcribe(nano, name).segments
    segments = transcribe(nano, name, word_timestamps=True).segments
    assert [[word.word.strip() for word in s.words or ()] for s in segments] == [p.split() for p in phrases(name)]
    for segment, phrase in zip(segments, plain, strict=True):
        assert segment.words is not None
        for word in segment.words:
            assert 0 <= word.end - word.start <= 1.2
            assert phrase.start - 0.2 <= (word.start + word.end) / 2 <= phrase.end + 0.2
        assert all(before.end <= after.start + 0.01 for before, after in pairwise(segment.words))


def test_a_batch_of_recordings_on_one_artifact(nano: max_whisper.Model) -> None:
    audios = [AUDIO / f"{name}.flac" for name in RECORDINGS]
    assert nano.transcribe_batch(audios) == [nano.transcribe(audio) for audio in audios]


def test_pauses_are_left_out(nano: max_whisper.Model) -> None:
    for name in RECORDINGS:
        found = transcribe(nano, name, vad="loudness")
        assert found.text.split() == " ".join(phrases(name)).split()


def test_the_command(nano_artifact: Path) -> None:
    outcome = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact)
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
