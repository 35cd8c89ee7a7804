"""Interrupted transcriptions that go on: after any window, the result is that of a run without interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import max_whisper
import msgspec
import numpy as np
import pytest
from conftest import ROOT
from max_whisper import Model, TranscriptionResult
from max_whisper.errors import UserError
from max_whisper.runtime.results import Window
from support.sounds import noise, silence, sweep
from support.transcribe_cases import checkpoint, options_of, sounds

PAUSED = np.concatenate([silence(3.0), sweep(1.5), silence(9.0), noise(5.0), silence(9.0), sweep(0.8), silence(2.0)])
SAMPLED = {"temperature": (0.2, 0.6, 0.9), "best_of": 2, "logprob_threshold": -3.0, "seed": 3}
EACH_TWO_SECONDS = {"language": "en", "temperature": 0, "max_new_tokens": 10, "without_timestamps": True}
CLIPS = "0.5,1.5,1.8,6.2,6.2,6.2,7"
WORDS = {"word_timestamps": True}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no conditioning": {"condition_on_previous_text": False},
    "no conditioning, prompt": {"condition_on_previous_text": False, "initial_prompt": "the cat and the rain"},
    "prompt": {"initial_prompt": "the cat and the rain"},
    "carried": {"initial_prompt": "the cat", "carry_initial_prompt": True, "hotwords": "rain"},
    "without timestamps": {"without_timestamps": True, "max_new_tokens": 10},
    "words": WORDS,
    "hallucinations": {**WORDS, "hallucination_silence_threshold": 0.3},
    "hallucinations, less silence": {**WORDS, "hallucination_silence_threshold": 0.02, "clip_timestamps": CLIPS},
    "clips": {"clip_timestamps": CLIPS},
    "clips, no conditioning": {"clip_timestamps": CLIPS, "condition_on_previous_text": False},
    "speech": {"vad": "loudness"},
    "speech, no conditioning": {"vad": "loudness", "condition_on_previous_text": False},
    "speech, words": {"vad": "loudness", **WORDS},
    "detected": {"language": None, "language_detection_segments": 3, "language_detection_threshold": 1.0},
    "samples": SAMPLED,
    "samples, no conditioning": {**SAMPLED, "condition_on_previous_text": False, "clip_timestamps": CLIPS},
    "silence likely": {"no_speech_threshold": 0.00047, "logprob_threshold": -3.2},
    "dropped": {"drop_suspect": True, **WORDS},
    "everything recorded": {"explain": True, "token_logprobs": True, "max_new_tokens": 10},
}


@pytest.fixture(scope="module")
def lively(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Returns a model whose windows have several segments."""
    home = tmp_path_factory.mktemp("resume")
    weights = checkpoint(home / "weights", "multilingual")
    return max_whisper.load(max_whisper.build(spec, weights=weights, dtype="float32", out=home / "artifact"))


def through_json(windows: list[Window]) -> list[Window]:
    return msgspec.json.decode(msgspec.json.encode(windows), type=list[Window])


def resumed(model: Model, sound: np.ndarray, windows: list[Window], options: dict[str, Any]) -> TranscriptionResult:
    """Returns the result of a transcription that goes on behind windows, of which iteration gives none again."""
    transcriber = model.transcriber(sound, **options)
    transcriber.resume(through_json(windows))
    new = [*transcriber]
    assert transcriber.windows == [*windows, *new]
    return transcriber.result()


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_that_of_one_run(name: str, lively: Model) -> None:
    sound = PAUSED if "speech" in name else sounds()["long"]
    options = {**options_of("multilingual", "default"), **CASES[name]}
    whole = lively.transcribe(sound, **options)
    assert len(whole.windows) > 2
    assert through_json(whole.windows) == whole.windows
    for done in range(len(whole.windows) + 1):
        assert resumed(lively, sound, whole.windows[:done], options) == whole


@pytest.mark.parametrize("name", ["plain", "no conditioning", "clips, no conditioning", "speech, no conditioning"])
def test_parts_that_share_batches_go_on(name: str, batched: Model) -> None:
    options = {**EACH_TWO_SECONDS, "language": None, **CASES[name]}
    whole = batched.transcribe(PAUSED, **options)
    assert len(whole.windows) > 2
    for done in range(len(whole.windows) + 1):
        assert resumed(batched, PAUSED, whole.windows[:done], options) == whole


@pytest.mark.parametrize("conditioned", [True, False])
def test_recordings_of_a_batch_go_on(batched: Model, conditioned: bool) -> None:
    recordings = [PAUSED, noise(7.0, seed=1), sweep(2.0), noise(9.0, seed=2)]
    options = {**EACH_TWO_SECONDS, "condition_on_previous_text": conditioned}
    whole = batched.transcribe_batch(recordings, **options)
    done = {0: 2, 1: 0, 2: len(whole[2].windows), 3: 3}
    results, given = {}, dict.fromkeys(done, 0)
    for event in batched.batch(recordings, **options):
        if event.kind == "opened" and event.transcriber is not None:
            event.transcriber.resume(through_json(whole[event.index].windows[: done[event.index]]))
        given[event.index] += event.kind == "window"
        if event.kind == "ended" and event.transcriber is not None:
            results[event.index] = event.transcriber.result()
    assert [results[index] for index in range(len(recordings))] == whole
    assert given == {index: len(whole[index].windows) - count for index, count in done.items()}


def test_a_loop_that_began_in_earlier_windows_is_found(nano: Model) -> None:
    spelling = max_whisper.load_audio(ROOT / "examples" / "audio" / "spelling.flac")
    sound = np.concatenate([spelling[:160_000]] * 4)  # windows of 10 s
    options = {"condition_on_previous_text": False, "without_timestamps": True, "drop_suspect": True}
    whole = nano.transcribe(sound, **options)
    assert [len(window.dropped) for window in whole.windows] == [0, 0, 1, 1]  # the text of the two before them
    for done in range(len(whole.windows) + 1):
        assert resumed(nano, sound, whole.windows[:done], options) == whole


def test_another_iteration_goes_on_behind_the_same_windows(lively: Model) -> None:
    options = options_of("multilingual", "default")
    whole = lively.transcribe(sounds()["long"], **options)
    transcriber = lively.transcriber(sounds()["long"], **options)
    transcriber.resume(whole.windows[:2])
    assert next(iter(transcriber)) == whole.windows[2]
    assert [*transcriber] == whole.windows[2:]
    assert transcriber.result() == whole
    transcriber.resume([])
    assert [*transcriber] == whole.windows


def test_the_windows_of_another_run_are_refused(lively: Model) -> None:
    options = options_of("multilingual", "without timestamps")
    windows = lively.transcribe(sounds()["long"], **options).windows
    transcriber = lively.transcriber(sounds()["noise"], **options)
    with pytest.raises(UserError, match=r"^windows: window 3 goes from 1.72 to 3.72 s, where .* from 1.72 to 3 s; "):
        transcriber.resume(windows)
    with pytest.raises(UserError, match=r"^windows: there are 1 more than this recording has; "):
        transcriber.resume([*lively.transcribe(sounds()["noise"], **options).windows, windows[-1]])
    with pytest.raises(UserError, match=r"^windows: window 1 goes from .* has one from 0 to 2 s; "):
        transcriber.resume(windows[1:])
    german = lively.transcriber(sounds()["long"], **{**options, "language": "de"})
    with pytest.raises(UserError, match=r"^windows: expected windows in one language, got de, en$"):
        german.resume(windows)
    assert transcriber.language == "en" and [*transcriber] == lively.transcribe(sounds()["noise"], **options).windows
