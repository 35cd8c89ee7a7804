"""Several recordings at once, and the parts of one, give what each gives alone."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from max_whisper import Model, Progress
from max_whisper.errors import AudioError, Cancelled, UserError
from max_whisper.runtime.audio.mel import LogMel
from max_whisper.runtime.decoding.cancelling import Stop
from max_whisper.runtime.transcription import opening
from max_whisper.runtime.transcription.executor import Executor
from max_whisper.runtime.transcription.requests import Align, Decode, DetectLanguage, Encode, Explain
from support.command import run
from support.sounds import noise, silence, sweep, write_wav

OPTIONS: dict[str, Any] = {"language": "en", "max_new_tokens": 10, "temperature": (0.0, 0.4), "best_of": 2}
SOUNDS = [noise(3.0, seed=1), sweep(2.0), np.concatenate([sweep(5.0), noise(2.5)]), noise(1.0, seed=2), sweep(4.1)]


@pytest.fixture
def calls(batched: Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[type, int]]:
    """The kind of the requests that were answered each time, and their number."""
    seen: list[tuple[type, int]] = []
    answer = Executor.answer

    def counted(self: Executor, requests: list[Any], stop: Stop) -> list[Any]:
        seen.append((type(requests[0]), len(requests)))
        return answer(self, requests, stop)

    monkeypatch.setattr(Executor, "answer", counted)
    return seen


@pytest.mark.parametrize("conditioned", [True, False])
def test_recordings_together_are_as_alone(batched: Model, calls: list[tuple[type, int]], conditioned: bool):
    options = {**OPTIONS, "condition_on_previous_text": conditioned}
    alone = [batched.transcribe(sound, **options) for sound in SOUNDS]
    calls.clear()
    progress: list[Progress] = []
    together = batched.transcribe_batch(SOUNDS, progress=progress.append, **options)
    assert together == alone
    assert max(calls, key=lambda call: call[1])[1] == 3
    assert sorted((p.index, p.done, p.total) for p in progress) == sorted(
        (i, window.end, result.duration) for i, result in enumerate(alone) for window in result.windows
    )
    tried = {attempt.temperature for result in alone for window in result.windows for attempt in window.attempts}
    assert tried == {0.0, 0.4}  # sampling, too


def test_languages_of_a_batch_are_detected_one_by_one(batched: Model):
    options = {**OPTIONS, "language": None, "temperature": 0}
    del options["best_of"]
    assert [r.language for r in batched.transcribe_batch(SOUNDS, **options)] == [
        batched.transcribe(sound, **options).language for sound in SOUNDS
    ]


PAUSED = np.concatenate([silence(9.0), sweep(1.5), silence(9.0), noise(1.0), silence(9.0), sweep(0.8), silence(2.0)])


def test_clips_of_one_recording_share_a_batch(batched: Model, model: Model, calls: list[tuple[type, int]]):
    options = {**OPTIONS, "temperature": 0, "vad": "loudness", "condition_on_previous_text": False}
    del options["best_of"]
    result = batched.transcribe(PAUSED, **options)
    assert max(calls, key=lambda call: call[1])[1] == 3
    starts = [window.start for window in result.windows]
    assert starts == sorted(starts)
    clips = {8.6, 19.09, 29.1}
    conditioned = batched.transcribe(PAUSED, **{**options, "condition_on_previous_text": True})
    one_by_one = model.transcribe(PAUSED, **options)
    for each in (result, conditioned, one_by_one):
        assert clips <= {window.start for window in each.windows}
    assert conditioned.windows[0] == result.windows[0]


def test_several_files_on_the_command_line(
    batched: Model, tmp_path: Path, calls: list[tuple[type, int]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    folder = str(batched._artifact.folder)
    files = [write_wav(tmp_path / f"{i}.wav", sound) for i, sound in enumerate(SOUNDS)]
    options = (
        "--model",
        folder,
        "--language",
        "en",
        "--max-new-tokens",
        "10",
        "--temperature-increment-on-fallback",
        "none",
    )
    out = run(
        "transcribe", *files[:2], "missing.wav", *files[2:], *options, "--output-dir", "out", "--output-format", "all"
    )
    assert out.code == 2
    assert "error: there is no file missing.wav" in out.stderr
    assert "1 of 6 recordings were not transcribed" in out.stderr
    for i, file in enumerate(files):
        alone = run("transcribe", file, *options)
        assert (Path("out") / f"{i}.txt").read_text() == alone.stdout
    assert sorted(path.suffix for path in Path("out").glob("0.*")) == [".json", ".srt", ".tsv", ".txt", ".vtt"]


def test_hotwords_are_seen_by_every_window(model: Model):
    options = {"language": "en", "temperature": 0, "max_new_tokens": 10, "condition_on_previous_text": False}
    plain = model.transcribe(noise(4.0), **options)
    told = model.transcribe(noise(4.0), hotwords="the weather", **options)
    prompted = model.transcribe(noise(4.0), initial_prompt="the weather", carry_initial_prompt=True, **options)
    assert told == prompted
    assert told != plain
    both = model.transcribe(noise(4.0), hotwords="the", initial_prompt="weather", carry_initial_prompt=True, **options)
    assert both == told
    with pytest.raises(UserError, match="hotwords: expected fewer than 224 tokens"):
        model.transcribe(noise(1.0), hotwords="weather " * 300)


def test_language_by_several_windows(model: Model, monkeypatch: pytest.MonkeyPatch):
    heard = [{"de": 0.4, "en": 0.3}, {"en": 0.45, "de": 0.3}, {"en": 0.4, "de": 0.3}, {"zh": 0.9}]
    answers = iter(heard)
    monkeypatch.setattr(
        model._executor, "_answers", {**model._executor._answers, DetectLanguage: lambda *_: [next(answers)]}
    )
    options = {"temperature": 0, "max_new_tokens": 3}
    assert model.transcribe(noise(9.0), **options, language_detection_segments=3).language == "en"  # the most frequent
    answers = iter(heard)
    assert model.transcribe(noise(9.0), **options, language_detection_segments=4).language == "zh"  # the first sure one
    answers = iter(heard)
    assert model.transcribe(noise(9.0), **options).language == "de"
    answers = iter(heard)
    sure = {"language_detection_segments": 4, "language_detection_threshold": 0.42}
    assert model.transcribe(noise(9.0), **options, **sure).language == "en"
    answers = iter(heard)
    assert model.transcribe(noise(3.0), **options, language_detection_segments=4).language == "de"  # there are but two
    for wrong in ({"language_detection_segments": 0}, {"language_detection_threshold": 1.5}):
        with pytest.raises(UserError, match="expected"):
            model.transcribe(noise(1.0), **wrong)


def test_the_window_whose_language_was_detected_is_encoded_once(batched: Model, calls: list[tuple[type, int]]):
    options = {**OPTIONS, "language": None, "temperature": 0, "condition_on_previous_text": False}
    del options["best_of"]
    result = batched.transcribe(noise(6.0), clip_timestamps="0,2,3,5", without_timestamps=True, **options)
    assert len(result.windows) == 2
    assert sum(size for kind, size in calls if kind is Encode) == 2


def test_words_and_explanations_share_batches(batched: Model, calls: list[tuple[type, int]]):
    options = {**OPTIONS, "temperature": 0, "word_timestamps": True, "explain": True}
    del options["best_of"]
    alone = [batched.transcribe(sound, **options) for sound in SOUNDS]
    calls.clear()
    assert batched.transcribe_batch(SOUNDS, **options) == alone
    assert {(Encode, 3), (Decode, 3), (Align, 3), (Explain, 3)} <= {*calls}
    assert any(segment.words for result in alone for segment in result.segments)


def test_threads_share_batches(batched: Model, calls: list[tuple[type, int]]):
    options = {**OPTIONS, "temperature": 0, "word_timestamps": True}
    del options["best_of"]
    alone = [batched.transcribe(sound, **options) for sound in SOUNDS]
    calls.clear()
    with ThreadPoolExecutor(len(SOUNDS)) as pool:
        for _ in range(3):
            assert list(pool.map(lambda sound: batched.transcribe(sound, **options), SOUNDS)) == alone
    assert max(size for _, size in calls) > 1


def test_a_batch_says_what_happens(batched: Model, tmp_path: Path):
    recordings = [SOUNDS[2], tmp_path / "missing.wav", SOUNDS[1]]
    options = {**OPTIONS, "temperature": 0, "without_timestamps": True}
    del options["best_of"]
    events = [event for event in batched.batch(recordings, **options)]
    by_recording = [[event.kind for event in events if event.index == i] for i in range(3)]
    assert by_recording[1] == ["opening", "failed"]
    (failed,) = (event for event in events if event.kind == "failed")
    assert failed.transcriber is None and isinstance(failed.error, AudioError)
    for i in (0, 2):
        (ended,) = (event for event in events if event.index == i and event.kind == "ended")
        assert ended.transcriber is not None
        result = batched.transcribe(recordings[i], **options)
        assert ended.transcriber.result() == result
        assert by_recording[i] == ["opening", "opened", *["window"] * len(result.windows), "ended"]
    with pytest.raises(AudioError, match=r"missing\.wav"):
        batched.transcribe_batch(recordings, **options)


def test_an_error_does_not_keep_the_sound_of_its_recording(batched: Model, monkeypatch: pytest.MonkeyPatch):
    """Callers keep errors, whose tracebacks have the variables of the functions in them."""
    sounds: list[weakref.ref[LogMel]] = []
    spectrogram = opening._spectrogram

    def noted(*arguments: Any) -> LogMel:
        mel = spectrogram(*arguments)
        sounds.append(weakref.ref(mel))
        return mel

    monkeypatch.setattr(opening, "_spectrogram", noted)
    errors = []
    batch = batched.batch([sweep(1.0), noise(5.0)], language="en", clip_timestamps="0,5", without_timestamps=True)
    for event in batch:
        if event.kind == "window" and event.index == 1:
            batch.cancel(1)
        if event.error is not None:
            errors.append(event.error)
    del batch, event
    gc.collect()
    assert sorted(type(error).__name__ for error in errors) == ["Cancelled", "OptionError"]
    assert [sound() for sound in sounds] == [None, None]


def test_one_recording_of_a_batch_is_cancelled(batched: Model):
    options = {**OPTIONS, "temperature": 0, "without_timestamps": True}
    del options["best_of"]
    batch = batched.batch(SOUNDS, **options)
    results, errors = {}, {}
    for event in batch:
        if event.kind == "window" and event.index == 2:
            batch.cancel(2)
        if event.kind == "ended" and event.transcriber is not None:
            results[event.index] = event.transcriber.result()
        if event.error is not None:
            errors[event.index] = event.error
    assert {i: type(error) for i, error in errors.items()} == {2: Cancelled}
    assert results == {i: batched.transcribe(SOUNDS[i], **options) for i in (0, 1, 3, 4)}


def test_a_transcription_is_cancelled_from_another_thread(model: Model, monkeypatch: pytest.MonkeyPatch):
    """Within the second window, after some of its tokens: the text of the first stays, and the model goes on."""
    options: dict[str, Any] = {"language": "en", "temperature": 0, "max_new_tokens": 200, "without_timestamps": True}
    sound = np.concatenate([noise(2.0, seed=seed) for seed in range(4)])
    whole = model.transcribe(sound, **options)
    transcriber = model.transcriber(sound, **options)
    windows = iter(transcriber)
    first = next(windows)
    asked = []
    answer = Executor.answer

    def slowed(self: Executor, requests: list[Any], stop: Stop) -> list[Any]:
        def asking() -> bool:
            asked.append(stop())
            if len(asked) == 5:
                thread = Thread(target=transcriber.cancel)
                thread.start()
                thread.join()
            return asked[-1]

        return answer(self, requests, asking)

    monkeypatch.setattr(Executor, "answer", slowed)
    with pytest.raises(Cancelled):
        next(windows)
    assert asked == [False] * 5 + [True]
    monkeypatch.undo()
    assert transcriber.result().windows == [first] == whole.windows[:1]
    assert model.transcribe(sound, **options) == whole
    with pytest.raises(Cancelled):
        next(iter(transcriber))
