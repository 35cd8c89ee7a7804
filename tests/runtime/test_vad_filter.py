"""Transcribing only the parts of a recording in which Silero VAD or loudness finds speech."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper.errors import ArtifactError, MaxWhisperError, UserError
from max_whisper.progress import Progress
from max_whisper.python_process import module_command
from max_whisper.runtime import model as model_module
from max_whisper.runtime.transcription import transcriber as transcriber_module
from max_whisper.runtime.transcription.part_options import PartOptions
from max_whisper.runtime.vad import cached
from max_whisper.runtime.vad.cached import cached_folder, find_detector
from max_whisper.runtime.vad.detector import VoiceDetector, load_detector
from max_whisper.runtime.vad.muted import MutedMel
from max_whisper.runtime.vad.speech import SpeechSettings
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


def test_what_lies_between_is_not_heard(
    nano: max_whisper.Model, detector: VoiceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recordings that differ only between their parts with speech have the same text, times and measures."""
    said = speech("commands")
    gap = 3 * 16000
    found = np.zeros((2 * len(said) + gap) // 512 + 1, np.float32)
    found[: len(said) // 512] = found[(len(said) + gap) // 512 :] = 1
    monkeypatch.setattr(VoiceDetector, "probabilities", lambda self, samples: found)
    options = {"vad_filter": True, "vad_speech_pad_ms": 30, "language": "en"}
    quiet, loud = (
        nano.transcribe(np.concatenate([said, between, said]), **options)
        for between in (silence(3.0), np.concatenate([silence(0.3), noise(2.4, seed=2)[:38400] * 0.2, silence(0.3)]))
    )
    assert quiet == loud and len(quiet.windows) == 2


@pytest.mark.parametrize("words", [False, True])
def test_the_text_goes_on_where_it_was_cut(
    nano: max_whisper.Model, silero: Path, monkeypatch: pytest.MonkeyPatch, words: bool
) -> None:
    """A window ends in its middle, within the padding behind a part: the next one begins there and not behind it."""
    sound = np.concatenate([speech("commands"), silence(4.0)])
    plain = nano.transcribe(sound, vad_filter=True, vad_speech_pad_ms=2000, word_timestamps=words)
    text = [token for token in plain.windows[0].result.tokens if token < nano.manifest.tokens.eot]
    begin = nano.manifest.tokens.timestamp_begin
    cut_at = begin + round((len(speech("commands")) / 16000 + 0.5) / 0.02)
    tokens = [begin, *text[:3], cut_at, cut_at, *text[3:]]
    with_retries = transcriber_module.with_retries
    decoded: list[Any] = []

    def cut(*arguments: Any) -> Any:
        results, attempts = yield from with_retries(*arguments)
        decoded.append(results[-1])
        return ([replace(results[-1], tokens=tokens)] if len(decoded) == 1 else results), attempts

    monkeypatch.setattr(transcriber_module, "with_retries", cut)
    found = nano.transcribe(sound, vad_filter=True, vad_speech_pad_ms=2000, word_timestamps=words)
    assert len(found.windows) == 2
    assert found.windows[1].start == found.windows[0].seek / 100


def test_the_language_is_that_of_the_speech(
    model: max_whisper.Model, silero: Path, paused: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody speaks there is no language: the windows in which it is detected are those with speech."""
    heard = []
    part = MutedMel.part

    def noted(self: MutedMel, first: int, last: int) -> np.ndarray:
        frames = part(self, first, last)
        heard.append((first, bool(self.heard[first:last].any())))
        return frames

    monkeypatch.setattr(MutedMel, "part", noted)
    options = {"language_detection_segments": 6, "language_detection_threshold": 1.0, "max_new_tokens": 1}
    model.transcribe(paused, vad_filter=True, temperature=0, **options)
    detecting = heard[:6]
    assert BEFORE - 0.5 < detecting[0][0] / 100 < BEFORE + 0.5
    assert all(speaks for _, speaks in detecting) and detecting[-1][0] / 100 > BEFORE + BETWEEN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", 0.7),
        ("neg_threshold", 0.2),
        ("min_speech_duration_ms", 300),
        ("max_speech_duration_s", 5.0),
        ("min_silence_duration_ms", 700),
        ("speech_pad_ms", 90),
    ],
)
def test_options_reach_the_rules(name: str, value: float) -> None:
    assert PartOptions(vad_filter=True, **{f"vad_{name}": value}).speech == replace(SpeechSettings(), **{name: value})


def test_no_window_is_longer_than_asked(nano: max_whisper.Model, silero: Path) -> None:
    windows = nano.transcribe(speech("spelling"), vad_filter=True, vad_max_speech_duration_s=4.0).windows
    assert len(windows) >= 4 and all(window.end - window.start <= 4.01 for window in windows)


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
        ({"vad_max_speech_duration_s": float("nan")}, "vad_max_speech_duration_s: expected 1 to 86400 seconds"),
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
    with pytest.raises(UserError, match=r"vad_model: there is no folder .*none; make it with: .*silero-vad"):
        nano.transcribe(speech("commands"), vad_filter=True, vad_model=tmp_path / "none")
    with pytest.raises(UserError, match=r"vad_model: .* expected one of the family 'vad'"):
        nano.transcribe(speech("commands"), vad_filter=True, vad_model=nano._artifact.folder)


def test_it_is_built_at_its_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "blake3.py").write_text("open('trap', 'w')\n")  # `python -m` would import it from the current folder
    reports: list[Progress] = []
    folder = find_detector(None, reports.append)
    assert folder == cached_folder() and folder.parent == tmp_path / "cache" / "max-whisper"
    assert any("compiled the detector" in report.message for report in reports)
    assert not any(report.message.startswith("[") for report in reports)
    assert not (tmp_path / "trap").exists()
    reports.clear()
    assert find_detector(None, reports.append) == folder
    assert reports == []


def test_every_version_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {cached_folder()}
    for name, value in (("MAX_VERSION", "1"), ("MANIFEST_VERSION", 1), ("package_version", lambda: "1")):
        monkeypatch.setattr(cached, name, value)
        places.add(cached_folder())
    monkeypatch.setattr(cached, "machine_features", lambda: {"avx"})
    monkeypatch.setattr(cached, "SPEC", "tiny.yaml")
    assert len({*places, cached_folder()}) == 5
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cached_folder().is_absolute()
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(UserError, match="no home folder for compiled code: set XDG_CACHE_HOME"):
        cached_folder()


def test_why_it_cannot_be_built(nano: max_whisper.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    with pytest.raises(UserError, match=r"could not be compiled to .*file/.* vad_model.* vad loudness"):
        nano.transcribe(speech("commands"), vad_filter=True)
    monkeypatch.setattr(sys, "executable", None)
    with pytest.raises(MaxWhisperError, match="no Python interpreter that could be started"):
        nano.transcribe(speech("commands"), vad_filter=True)


def test_a_damaged_one_in_the_cache(
    nano: max_whisper.Model, silero: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    damaged = copy(silero, cached_folder())
    (damaged / "detector.mef").unlink()
    with pytest.raises(ArtifactError, match=f"or remove {re.escape(str(damaged))}, which is then made again"):
        nano.transcribe(speech("commands"), vad_filter=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("a" * 300)))
    with pytest.raises(UserError, match="could not be compiled to"):
        nano.transcribe(speech("commands"), vad_filter=True)


def test_only_the_folders_of_this_program_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap, own = tmp_path / "b", tmp_path / "a:b"
    for folder, said in ((tmp_path, "trap"), (trap, "trap"), (own, "own")):
        folder.mkdir(exist_ok=True)
        for name in ("greeting", "json", "runpy"):
            (folder / f"{name}.py").write_text(f"print({said!r})\n")
    (own / "json.py").unlink()
    (own / "runpy.py").unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(own), None, b"x", *(path for path in sys.path if path)])
    done = subprocess.run(module_command("greeting"), capture_output=True, text=True, check=True)
    assert done.stdout == "own\n"


def test_a_build_that_fails(nano: max_whisper.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        cached, "module_command", lambda *arguments: [sys.executable, "-c", "raise SystemExit('error: no')"]
    )
    with pytest.raises(
        MaxWhisperError, match="could not be compiled: no; take one that was compiled elsewhere"
    ) as raised:
        nano.transcribe(speech("commands"), vad_filter=True)
    assert not isinstance(raised.value, UserError)


def test_two_threads_load_one_detector(nano_artifact: Path, silero: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(model_module, "load_detector", lambda folder: loaded.append(folder) or load_detector(folder))
    model = max_whisper.load(nano_artifact)
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: model.transcribe(speech("commands"), vad_filter=True).text, range(4)))
    assert len({*texts}) == 1 and loaded == [silero]


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
    assert quiet.stderr.endswith("quiet.wav: no speech was found\n")
    explained = run("transcribe", wav, "--model", nano_artifact, "--vad-filter", "--explain").stderr
    assert re.search(r"paused\.wav: speech from 00:07\.\d+ to 00:1\d\.\d+, 00:39\.\d+ to 00:4\d\.\d+\n", explained)


def test_the_command_builds_it_and_shows_that(
    nano_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact, "--vad-filter")
    assert done.code == 0 and "compiled the detector" in done.stderr
    again = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact, "--vad-filter")
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_the_command_says_why_not(nano_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max-whisper").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = run("transcribe", AUDIO / "commands.flac", "--model", nano_artifact, "--vad-filter")
    said = error(done)
    assert "the voice detector could not be compiled to" in said and "--vad loudness" in said
    missing = run(
        "transcribe", AUDIO / "commands.flac", "--model", nano_artifact, "--vad-filter", "--vad-model", "none"
    )
    assert "--vad-model: there is no folder none; make it with" in error(missing)
