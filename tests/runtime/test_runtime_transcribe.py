"""Whole recordings: how windows are cut, what results say, threads, memory, and what is imported."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from max_whisper import DecodingResult, Model, Progress, TranscriptionResult
from max_whisper.errors import AudioError
from max_whisper.runtime.audio.mel import HOP
from support.models.small import RATE
from support.sounds import noise, sweep, write_wav

FRAMES = 200  # of a window
SAMPLES = FRAMES * HOP
COUNT = 12  # tokens of a window


def by_hand(model: Model, waveform: np.ndarray, language: str) -> list[list[int]]:
    """Tokens of each window, cut as openai/whisper does: from one mel, behind the sound 0.0."""
    mel = model.log_mel(waveform, padding=SAMPLES)
    content = mel.shape[1] - FRAMES
    tokens = []
    for start in range(0, content, FRAMES):
        window = np.zeros((1, 80, FRAMES), np.float32)
        piece = mel[:, start : min(start + FRAMES, content)]
        window[0, :, : piece.shape[1]] = piece
        (result,) = model.decode(model.encode(window), language=language, max_new_tokens=COUNT, without_timestamps=True)
        tokens.append(result.tokens)
    return tokens


def decode(model: Model, features: Any, **options: Any) -> list[DecodingResult]:
    """Text alone."""
    return model.decode(features, without_timestamps=True, **options)


EACH_FOR_ITSELF: dict[str, Any] = {
    "max_new_tokens": COUNT,
    "without_timestamps": True,
    "condition_on_previous_text": False,
    "temperature": 0,
    "no_speech_threshold": None,
}


def transcribe(model: Model, waveform: Any, language: str | None = "en") -> TranscriptionResult:
    return model.transcribe(waveform, language=language, **EACH_FOR_ITSELF)


@pytest.mark.parametrize("seconds", [0.5, 2.0, 3.0, 6.0, 5.999])
def test_windows(model: Model, seconds: float) -> None:
    waveform = np.concatenate([sweep(seconds / 2), noise(seconds / 2)])
    result = transcribe(model, waveform)
    assert [segment.tokens for segment in result.segments] == by_hand(model, waveform, "en")
    assert result.text == model.tokenizer.decode(token for segment in result.segments for token in segment.tokens)
    assert result.language == "en"
    frames = len(waveform) // HOP
    for i, segment in enumerate(result.segments):
        assert segment.start == pytest.approx(2.0 * i)
        assert segment.end == pytest.approx(min(2.0 * (i + 1), frames / 100))
        assert segment.text == model.tokenizer.decode(segment.tokens)
        assert np.isfinite(segment.avg_logprob)


def test_another_iteration_begins_again(model: Model) -> None:
    waveform = np.concatenate([sweep(3.0), noise(3.0)])
    options: dict[str, Any] = {"language": "en", "temperature": 0, "max_new_tokens": COUNT, "without_timestamps": True}
    transcriber = model.transcriber(waveform, **options)
    first = next(iter(transcriber))
    midway = transcriber.result()
    windows = [*transcriber]
    assert windows[0] == first and len(windows) > 1
    assert transcriber.result() == model.transcribe(waveform, **options)
    assert midway.windows == [first]  # a result does not change any more


@pytest.mark.parametrize(
    ("samples", "windows"),
    [(1, 0), (159, 0), (160, 1), (161, 1), (SAMPLES - 1, 1), (SAMPLES, 1), (SAMPLES + 1, 1), (SAMPLES + 160, 2)],
)
def test_lengths_around_a_window(model: Model, samples: int, windows: int) -> None:
    waveform = noise(3.0)[:samples]
    result = transcribe(model, waveform)
    assert [segment.tokens for segment in result.segments] == by_hand(model, waveform, "en")
    assert len(result.segments) == windows
    if windows:
        assert result.segments[-1].end == pytest.approx(samples // HOP / 100)
    else:
        assert result.text == ""


def test_language_is_that_of_the_first_window(model: Model) -> None:
    waveform = np.concatenate([noise(2.0, seed=3), sweep(2.0)])
    mel = model.log_mel(waveform, padding=SAMPLES)
    (shares,) = model.detect_language(model.encode(mel[None, :, :FRAMES]))
    result = transcribe(model, waveform, language=None)
    assert result.language == next(iter(shares))
    assert [segment.tokens for segment in result.segments] == by_hand(model, waveform, result.language)


def test_a_language_may_be_given_by_name(model: Model) -> None:
    assert transcribe(model, sweep(2.0), "German") == transcribe(model, sweep(2.0), "de")
    assert transcribe(model, sweep(2.0), "German").language == "de"


def test_files_streams_and_waveforms(model: Model, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "sweep.wav", sweep(3.0))
    with path.open("rb") as file:
        waveform = np.frombuffer(path.read_bytes()[44:], np.int16)
        assert (
            transcribe(model, path)
            == transcribe(model, str(path))
            == transcribe(model, file)
            == transcribe(model, io.BytesIO(path.read_bytes()))
            == transcribe(model, waveform)
            == transcribe(model, waveform / np.float32(32768))
        )


def test_progress(model: Model) -> None:
    seen: list[Progress] = []
    model.transcribe(noise(5.0), language="en", progress=seen.append, **EACH_FOR_ITSELF)
    assert seen == [Progress(f"transcribed {done:.0f} of 5 s", done, 5.0, "seconds") for done in (2.0, 4.0, 5.0)]


def test_windows_come_one_by_one(model: Model) -> None:
    transcriber = model.transcriber(noise(5.0), language="en", **EACH_FOR_ITSELF)
    windows = iter(transcriber)
    first = next(windows)
    assert transcriber.result().segments == first.segments
    assert (first.start, first.end, first.seek) == (0.0, 2.0, 200)
    rest = [segment for window in windows for segment in window.segments]
    assert [*first.segments, *rest] == transcriber.result().segments
    assert transcriber.result() == transcribe(model, noise(5.0))


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros((2, 16000), np.float32), r"shape \[2, 16000\]"),
        (np.zeros(16000, np.int32), "type int32"),
        (np.full(16000, np.nan), "NaN"),
        (np.full(16000, 1e6), "as large as"),
    ],
)
def test_wrong_waveforms(model: Model, waveform: np.ndarray, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        model.transcribe(waveform)


# --- several windows at once


@pytest.mark.parametrize("windows", [1, 2, 3, 4, 7])
def test_windows_at_once_do_not_meet(batched: Model, windows: int) -> None:
    """Each window of a batch, full or not, gives what it gives alone."""
    mel = np.stack([batched.log_mel(noise(2.0, seed=seed)) for seed in range(windows)])
    features = batched.encode(mel)
    assert features.shape == (windows, 100, 64)
    results = decode(batched, features, language="en", max_new_tokens=60)
    logits = batched.logits(features, [[1, 2, 3]] * windows)
    assert len(results) == len(logits) == windows
    for i in range(windows):
        alone = batched.encode(mel[i : i + 1])
        np.testing.assert_array_equal(np.asarray(alone)[0], np.asarray(features)[i])
        np.testing.assert_array_equal(batched.logits(alone, [[1, 2, 3]])[0], logits[i])
        (result,) = decode(batched, alone, language="en", max_new_tokens=60)
        assert result.tokens == results[i].tokens
        assert result.avg_logprob == pytest.approx(results[i].avg_logprob, abs=1e-6)
    assert decode(batched, np.asarray(features), language="en", max_new_tokens=60) == results


def test_rows_end_at_different_places(batched: Model) -> None:
    mel = np.stack([batched.log_mel(noise(2.0, seed=seed)) for seed in range(6)])
    lengths = {len(result.tokens) for result in decode(batched, batched.encode(mel), language="en")}
    assert len(lengths) > 2


def test_each_row_has_its_language(batched: Model) -> None:
    mel = np.stack([batched.log_mel(noise(2.0, seed=seed)) for seed in range(7)])
    features = batched.encode(mel)
    detected = [next(iter(shares)) for shares in batched.detect_language(features)]
    assert [result.language for result in decode(batched, features, max_new_tokens=2)] == detected


def test_bfloat16_is_near_float32(batched: Model, ending: Model) -> None:
    """Same weights: bfloat16 has 8 bits, and errors add up over the layers."""
    mel = np.stack([ending.log_mel(noise(2.0, seed=seed)) for seed in range(3)])
    rough, exact = (np.asarray(model.encode(mel)) for model in (batched, ending))
    error = np.abs(rough - exact)
    assert 0 < error.mean() < 0.02 * np.abs(exact).max()
    assert error.max() < 0.2 * np.abs(exact).max()
    rough, exact = (model.logits(model.encode(mel), [[1, 2, 3]] * 3) for model in (batched, ending))
    assert np.abs(rough - exact).mean() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("seconds", [1.0, 6.0, 9.0, 14.0])
def test_transcription_by_several_windows(batched: Model, seconds: float) -> None:
    waveform = noise(seconds)
    assert [segment.tokens for segment in transcribe(batched, waveform).segments] == by_hand(batched, waveform, "en")


# --- in company


def test_threads_share_a_model(model: Model) -> None:
    sounds = [noise(3.0, seed=seed) for seed in range(12)]
    alone = [transcribe(model, sound, None) for sound in sounds]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert list(pool.map(lambda sound: transcribe(model, sound, None), sounds)) == alone


def test_memory_does_not_grow(model: Model) -> None:
    """A leak of one set of caches or of features per window would be seen: 60 windows have 30 MB of them."""

    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux")
    sound = noise(20.0)
    for _ in range(2):
        transcribe(model, sound)
    before = resident()
    for _ in range(6):
        transcribe(model, sound)
    assert resident() - before < 15


PROBE = """
import json, sys
import max_whisper
model = max_whisper.load(sys.argv[1])
result = model.transcribe(sys.argv[2], max_new_tokens=12, without_timestamps=True, temperature=0)
assert result.segments
print(json.dumps(sorted(name for name in sys.modules if name.startswith(("max", "torch")))))
"""


def test_nothing_of_the_compiler_is_imported(artifact: Path, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "sweep.wav", sweep(2.0))
    done = subprocess.run(
        [sys.executable, "-c", PROBE, artifact, sound], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    modules = json.loads(done.stdout)
    assert "max_whisper.runtime.model" in modules
    for part in ("spec", "lowering", "weights", "compile", "tools"):
        assert not [name for name in modules if name.startswith(f"max_whisper.{part}")]
    for other in ("max.engine", "max.graph", "torch"):
        assert not [name for name in modules if name.startswith(other)]


def test_rate() -> None:
    assert SAMPLES == 2 * RATE
