"""Which parts of a recording are taken for speech, and what the model hears of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from max_whisper.runtime.audio.mel import HOP, LogMel
from max_whisper.runtime.transcription.clips import Clip, named_clips, speech_clips
from max_whisper.runtime.vad.loudness import loud_frames
from max_whisper.runtime.vad.muted import MutedMel
from max_whisper.runtime.vad.speech import Part, SpeechSettings, speech_parts, up_to_ends
from support.sounds import noise, silence, sweep
from support.speech_cases import GOLDEN, SAMPLES, cases


def test_the_parts_are_those_of_faster_whisper() -> None:
    expected = json.loads(GOLDEN.read_text())
    assert sum(map(len, expected)) > 500
    for case, parts in zip(cases(), expected, strict=True):
        n_samples = len(case.probabilities) * SAMPLES - 1
        found = speech_parts(case.probabilities, n_samples, SAMPLES, SpeechSettings(**case.settings))
        assert [[part.first, part.last] for part in found] == [
            [pytest.approx(first, abs=1), pytest.approx(last, abs=1)] for first, last in parts
        ], case.settings


@pytest.mark.parametrize("longest", [0, 0.5, 1.5, 5])
def test_no_speech_is_lost_where_parts_are_cut(longest: float) -> None:
    for case in cases():
        settings = SpeechSettings(**{**case.settings, "min_speech_duration_ms": 0, "max_speech_duration_s": longest})
        n_samples = len(case.probabilities) * SAMPLES - 1
        parts = speech_parts(case.probabilities, n_samples, SAMPLES, settings)
        heard = np.zeros(n_samples, bool)
        for part in parts:
            assert part.first < part.speech_end <= part.last <= n_samples
            assert part.last - part.first <= max(longest * 16000, SAMPLES + 2 * settings.pad)
            heard[part.first : part.last] = True
        assert all(before.last <= after.first for before, after in pairwise(parts))
        spoken = np.repeat(case.probabilities >= settings.threshold, SAMPLES)[:n_samples]
        assert not (spoken & ~heard).any(), case.settings


def test_parts_are_cut_at_their_last_pause() -> None:
    probabilities = np.ones(100, np.float32)
    probabilities[40:46] = probabilities[60:66] = 0
    settings = SpeechSettings(max_speech_duration_s=80 * SAMPLES / 16000, speech_pad_ms=0)
    parts = speech_parts(probabilities, 100 * SAMPLES, SAMPLES, settings)
    assert [(part.first // SAMPLES, part.last // SAMPLES) for part in parts] == [(0, 60), (66, 100)]


def test_there_may_be_no_speech() -> None:
    assert speech_parts(np.zeros(100, np.float32), 100 * SAMPLES, SAMPLES, SpeechSettings()) == []
    assert speech_parts(np.zeros(0, np.float32), 0, SAMPLES, SpeechSettings()) == []


def test_short_pauses_at_the_ends_are_heard() -> None:
    settings = SpeechSettings(min_silence_duration_ms=1000)
    assert up_to_ends(PARTS, 120000, settings) == [Part(0, 16000, 17600), PARTS[1], Part(96000, 112000, 120000)]
    assert up_to_ends(PARTS[1:2], 120000, settings) == PARTS[1:2]
    assert up_to_ends([], 120000, settings) == []


# --- loudness


def loud_parts(*sounds: np.ndarray) -> list[tuple[float, float]]:
    """Returns the parts with speech by loudness, in seconds."""
    samples = np.concatenate(sounds)
    loud = loud_frames(LogMel(samples, 80, padding=16000).loudness, 10.0).astype(np.float32)
    parts = speech_parts(loud, len(samples), HOP, SpeechSettings())
    return [(part.first / 16000, part.last / 16000) for part in parts]


def test_pauses_are_left_out_and_parts_padded() -> None:
    hiss = noise(20.0, seed=3)[: 20 * 16000] * 0.001
    sound = np.concatenate([silence(4.0), sweep(3.0), silence(6.0), sweep(2.0), silence(5.0)]) + hiss
    first, second = loud_parts(sound)
    assert first == (pytest.approx(3.6, abs=0.15), pytest.approx(7.4, abs=0.15))
    assert second == (pytest.approx(12.6, abs=0.15), pytest.approx(15.4, abs=0.15))


def test_nothing_is_lost_where_there_is_no_silence() -> None:
    assert loud_parts(noise(7.0)) == [(0.0, 7.0)]
    assert loud_parts(sweep(2.0), noise(3.0), sweep(2.0)) == [(0.0, 7.0)]


def test_every_loud_frame_is_in_a_part() -> None:
    rng = np.random.default_rng(0)
    sounds = [part for _ in range(20) for part in (silence(rng.uniform(0.2, 5)), noise(rng.uniform(0.1, 3)))]
    samples = np.concatenate(sounds)
    covered = np.zeros(len(samples) // 160, bool)
    for first, last in loud_parts(samples):
        covered[round(first * 100) : round(last * 100)] = True
    loud = np.abs(samples[: len(covered) * 160]).reshape(-1, 160).max(axis=1) > 0.1
    assert not (loud & ~covered).any()
    assert covered.mean() < 0.95


def test_silence_is_not_loud() -> None:
    assert loud_parts(silence(3.0)) == []


def test_loudness_is_that_of_the_spectrogram() -> None:
    mel = LogMel(np.concatenate([sweep(1.0), silence(1.0), noise(0.5) * 0.01]), 80, padding=16000)
    frames = len(mel.loudness)
    assert frames == 250
    np.testing.assert_allclose(mel.loudness, mel.part(0, frames).max(axis=0) * 40, atol=1e-4)
    assert (LogMel(silence(1.0), 80, padding=16000).loudness == -60).all()


# --- what is heard


PARTS = [Part(1600, 16000, 17600), Part(48000, 64000, 64800), Part(96000, 112000, 113600)]


def test_neighbors_share_a_clip_but_not_more() -> None:
    first, second, third = Part(10, 100, 110), Part(300, 400, 405), Part(600, 700, 710)
    assert speech_clips(PARTS, 800, 400) == [Clip((first, second)), Clip((third,))]
    assert speech_clips(PARTS, 800, 800) == [Clip((first, second, third))]
    assert speech_clips(PARTS, 705, 800)[0].last == 705
    assert [clip.last for clip in speech_clips(PARTS, 800, 1)] == [110, 405, 710]
    assert speech_clips([], 800, 800) == []


@pytest.mark.parametrize(
    ("frame", "heard"), [(10, 10), (99, 99), (100, 300), (250, 300), (399, 399), (400, 600), (700, 710), (720, 710)]
)
def test_a_window_begins_where_somebody_speaks(frame: int, heard: int) -> None:
    (clip,) = speech_clips(PARTS, 800, 800)
    assert clip.heard_from(frame, unfinished=False) == heard


@pytest.mark.parametrize(("frame", "heard"), [(100, 100), (109, 109), (110, 300), (700, 700), (709, 709), (710, 710)])
def test_a_text_goes_on_in_the_padding(frame: int, heard: int) -> None:
    (clip,) = speech_clips(PARTS, 800, 800)
    assert clip.heard_from(frame, unfinished=True) == heard


def test_named_clips() -> None:
    assert named_clips((0.0,), 800) == [Clip((Part(0, 800, 800),))]
    assert named_clips((1.0, 2.0, 3.0), 800) == [Clip((Part(100, 200, 200),)), Clip((Part(300, 800, 800),))]


@pytest.mark.parametrize("frames", [(0, 800), (50, 350), (110, 300), (0, 10)])
def test_what_lies_between_parts_is_silent(frames: Sequence[int]) -> None:
    mel = LogMel(noise(8.0), 80, padding=16000)
    muted, whole = (heard.part(*frames) for heard in (MutedMel(mel, PARTS), mel))
    heard = np.zeros(800, bool)
    for first, last in ((10, 110), (300, 405), (600, 710)):
        heard[first:last] = True
    heard = heard[frames[0] : frames[1]]
    assert np.array_equal(muted[:, heard], whole[:, heard])
    assert (muted[:, ~heard] == mel.silence).all()
    assert np.array_equal(MutedMel(mel, PARTS).heard[frames[0] : frames[1]], heard)


@pytest.mark.parametrize(("frame", "heard"), [(0, 10), (10, 10), (109, 109), (110, 300), (709, 709), (710, 900)])
def test_where_something_is_heard(frame: int, heard: int) -> None:
    mel = LogMel(noise(8.0), 80, padding=16000)
    assert MutedMel(mel, PARTS).heard_from(frame) == heard
    assert MutedMel(mel, []).heard_from(0) == mel.frames == 900
    assert mel.heard_from(frame) == frame
