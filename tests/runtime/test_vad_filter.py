"""Transcribing only the parts of a recording in which Silero VAD or loudness finds speech."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.progress import Progress
from max_whisper.runtime.transcription.part_options import PartOptions
from max_whisper.runtime.vad import cached
from max_whisper.runtime.vad.cached import cached_detector, detector_folder
from max_whisper.runtime.vad.detector import VoiceDetector
from support.artifacts import copy
from support.command import error, run
from support.sounds import noise, silence, write_wav

ROOT = Path(__file__).parents[2]
AUDIO = ROOT / "examples" / "audio"
BEFORE, BETWEEN = 7.3, 24.9
"""The seconds of hiss before the first of two recordings, and between them."""


def speech(name: str) -> np.ndarray:
    return max_whisper.load_audio(AUDIO / f"{name}.flac")


def hiss(seconds: float) -> np.ndarray:
    return noise(seconds, seed=5)[: int(seconds * 16000)] * 0.05


@pytest.fixture(scope="module")
def paused() -> np.ndarray:
    return np.concatenate([hiss(BEFORE), speech("commands"), hiss(BETWEEN), speech("commands"), hiss(9.0)])


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("options", [{"vad_filter": True}, {"vad": "silero", "vad_speech_pad_ms": 250}])
def test_times_are_those_of_the_recording(
    nano: max_whisper.Model, silero: Path, paused: np.ndarray, options: dict[str, Any], words: bool
) -> None:
    alone = nano.transcribe(speech("commands"), word_timestamps=words)
    found = nano.transcribe(paused, word_timestamps=words, **options)
    assert found.text.split() == 2 * alone.text.split()
    later = alone.duration + BETWEEN
    starts = [segment.start + BEFORE + shift for shift in (0, later) for segment in alone.segments]
    assert [segment.start for segment in found.segments] == pytest.approx(starts, abs=0.8 if words else 0.3)
    assert found.duration == pytest.approx(len(paused) / 16000)
    if words:
        expected, spoken = (
            [word for segment in result.segments for word in segment.words or ()] for result in (alone, found)
        )
        assert [word.word for word in spoken] == 2 * [word.word for word in expected]
        starts = [word.start + BEFORE + shift for shift in (0, later) for word in expected]
        assert [word.start for word in spoken] == pytest.approx(starts, abs=1.0)  # nano places words roughly
    heard = [(window.start, window.end) for window in found.windows]
    assert heard[0][0] > BEFORE - 0.5 and heard[-1][1] < found.duration - 8
    middle = BEFORE + alone.duration + BETWEEN / 2
    assert not any(start < middle < end for start, end in heard), "no window of ten seconds reaches over the pause"


@pytest.mark.parametrize("name", ["commands", "countdown", "spelling"])
def test_nothing_is_lost(nano: max_whisper.Model, silero: Path, name: str) -> None:
    assert nano.transcribe(speech(name), vad_filter=True).text == nano.transcribe(speech(name)).text


@pytest.mark.parametrize(
    "sound", [silence(5.0), noise(5.0) * 0.1, noise(1.0)[:1]], ids=["silence", "noise", "a sample"]
)
def test_there_may_be_no_speech(nano: max_whisper.Model, silero: Path, sound: np.ndarray) -> None:
    result = nano.transcribe(sound, vad_filter=True, word_timestamps=True)
    assert (result.text, result.segments, result.windows) == ("", [], [])
    assert result.duration == len(sound) / 16000


def test_loudness_takes_noise_for_speech(nano: max_whisper.Model, silero: Path) -> None:
    sound = np.concatenate([silence(5.0), noise(2.0) * 0.1, silence(5.0)])
    assert len(nano.transcribe(sound, vad="loudness").windows) == 1
    assert len(nano.transcribe(sound, vad_filter=True, vad="loudness").windows) == 1
    assert nano.transcribe(sound, vad_filter=True).windows == []


def test_a_file_is_read_block_by_block(
    nano: max_whisper.Model, detector: VoiceDetector, paused: np.ndarray, tmp_path: Path
) -> None:
    wav = write_wav(tmp_path / "paused.wav", paused)
    with_file = detector.probabilities(max_whisper.open_audio(wav))
    np.testing.assert_array_equal(with_file, detector.probabilities(max_whisper.load_audio(wav)))
    whole = nano.transcribe(max_whisper.load_audio(wav), vad_filter=True)
    assert nano.transcribe(wav, vad_filter=True) == whole


def test_a_batch(nano: max_whisper.Model, silero: Path, paused: np.ndarray) -> None:
    sounds = [paused, silence(3.0), speech("countdown")]
    assert nano.transcribe_batch(sounds, vad_filter=True) == [
        nano.transcribe(sound, vad_filter=True) for sound in sounds
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vad_threshold": 0.3}, "vad_threshold: is for vad_filter or vad, give one of them too"),
        ({"vad_model": "x"}, "vad_model: is for vad_filter or vad, give one of them too"),
        ({"vad": "loudness", "vad_threshold": 0.3}, "vad_threshold: is for vad silero; give that, or leave it out"),
        ({"vad": "loudness", "vad_model": "x"}, "vad_model: is for vad silero"),
        ({"vad_filter": True, "vad_loudness": 3.0}, "vad_loudness: is for vad loudness"),
        ({"vad_filter": True, "clip_timestamps": "1,2"}, "vad_filter, vad: find the clips themselves"),
        (
            {"vad_filter": True, "vad_neg_threshold": 0.6},
            "vad_neg_threshold: expected at most vad_threshold, which is 0.5",
        ),
        ({"vad": "webrtc"}, "vad: expected silero or loudness, or none, got 'webrtc'"),
        ({"vad_threshold": 1.5}, "vad_threshold: expected 0 to 1, got 1.5"),
        ({"vad_speech_pad_ms": -1}, "vad_speech_pad_ms: expected 0 to 86400000, got -1"),
        ({"vad_max_speech_duration_s": float("nan")}, "vad_max_speech_duration_s: expected 0 to 86400 seconds"),
        ({"vad_model": ""}, "vad_model: expected a path, or none, got ''"),
        ({"vad_model": b"x"}, "vad_model: expected a path, or none, got b'x'"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        PartOptions(**options).check()
    assert str(raised.value).startswith(said)


# --- the detector


def test_a_detector_of_ones_own(nano: max_whisper.Model, silero: Path, tmp_path: Path) -> None:
    own = copy(silero, tmp_path / "own")
    assert nano.transcribe(speech("commands"), vad_filter=True, vad_model=own).text
    with pytest.raises(UserError, match="there is no folder"):
        nano.transcribe(speech("commands"), vad_filter=True, vad_model=tmp_path / "none")
    with pytest.raises(UserError, match="expected one of the family 'vad'"):
        nano.transcribe(speech("commands"), vad_filter=True, vad_model=nano._artifact.folder)


def test_it_is_built_at_its_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    reports: list[Progress] = []
    folder = cached_detector(reports.append)
    assert folder == detector_folder() and folder.parent == tmp_path / "cache" / "max-whisper"
    assert any("compiled the detector" in report.message for report in reports)
    assert not any(report.message.startswith("[") for report in reports)
    reports.clear()
    assert cached_detector(reports.append) == folder
    assert reports == []


def test_why_it_cannot_be_built(nano: max_whisper.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with pytest.raises(UserError, match=r"vad_filter: the voice detector could not be compiled: .*vad loudness"):
        nano.transcribe(speech("commands"), vad_filter=True)
    monkeypatch.setattr(cached, "SPEC", "no-such-spec.yaml")
    with pytest.raises(UserError, match=r"could not be compiled: .*no-such-spec\.yaml"):
        nano.transcribe(speech("commands"), vad_filter=True)
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(MaxWhisperError, match="no Python could be started"):
        nano.transcribe(speech("commands"), vad_filter=True)


def test_the_runtime_has_no_compiler(nano_artifact: Path, silero: Path) -> None:
    program = f"""
import sys, max_whisper
model = max_whisper.load({str(nano_artifact)!r})
print(model.transcribe({str(AUDIO / "commands.flac")!r}, vad_filter=True).text)
print([name for name in sys.modules if name.startswith(("max_whisper.compile", "max_whisper.lowering", "max.graph"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    text, modules = done.stdout.splitlines()
    assert text and modules == "[]"


# --- the command


def test_the_command(nano_artifact: Path, silero: Path, tmp_path: Path, paused: np.ndarray) -> None:
    wav = write_wav(tmp_path / "paused.wav", paused)
    plain = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact)
    for options in (("--vad-filter",), ("--vad", "silero", "--vad-model", silero)):
        done = run("transcribe", wav, "--model", nano_artifact, *options)
        assert (done.code, done.stdout) == (0, 2 * plain.stdout)
    quiet = run("transcribe", write_wav(tmp_path / "quiet.wav", hiss(3.0)), "--model", nano_artifact, "--vad-filter")
    assert (quiet.code, quiet.stdout) == (0, "")


def test_the_command_builds_it_and_shows_that(
    nano_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact, "--vad-filter")
    assert done.code == 0 and "compiled the detector" in done.stderr
    again = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact, "--vad-filter")
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_the_command_says_why_not(nano_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "SPEC", "no-such-spec.yaml")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact, "--vad-filter")
    assert "--vad-filter: the voice detector could not be compiled" in error(done)
    assert "--vad loudness" in error(done)
