"""Which parts of a recording are taken for a voice."""

from __future__ import annotations

import numpy as np
import pytest
from max_whisper.errors import UserError
from max_whisper.runtime.audio.mel import LogMel
from max_whisper.runtime.audio.vad import voice
from max_whisper.runtime.transcription.options import TranscribeOptions
from support.sounds import noise, silence, sweep

WINDOW = 1000  # frames


def clips(*parts: np.ndarray, longest: int = WINDOW) -> list[tuple[float, float]]:
    """In seconds."""
    samples = np.concatenate(parts)
    found = voice(LogMel(samples, 80, padding=16000), len(samples) // 160, longest)
    return [(first / 100, last / 100) for first, last in found]


def test_pauses_are_left_out_and_clips_padded():
    hiss = noise(20.0, seed=3)[: 20 * 16000] * 0.001
    sound = np.concatenate([silence(4.0), sweep(3.0), silence(6.0), sweep(2.0), silence(5.0)]) + hiss
    first, second = clips(sound, longest=600)
    assert first == (pytest.approx(3.6, abs=0.15), pytest.approx(7.4, abs=0.15))
    assert second == (pytest.approx(12.6, abs=0.15), pytest.approx(15.4, abs=0.15))


def test_nothing_is_lost_where_there_is_no_silence():
    assert clips(noise(7.0)) == [(0.0, 7.0)]
    assert clips(sweep(2.0), noise(3.0), sweep(2.0)) == [(0.0, 7.0)]


def test_every_loud_frame_is_in_a_clip():
    rng = np.random.default_rng(0)
    parts = [part for _ in range(20) for part in (silence(rng.uniform(0.2, 5)), noise(rng.uniform(0.1, 3)))]
    samples = np.concatenate(parts)
    covered = np.zeros(len(samples) // 160, bool)
    for first, last in clips(samples):
        covered[round(first * 100) : round(last * 100)] = True
    loud = np.abs(samples[: len(covered) * 160]).reshape(-1, 160).max(axis=1) > 0.1
    assert not (loud & ~covered).any()
    assert covered.mean() < 0.95


def test_neighbors_share_a_window_but_not_more():
    spoken = [part for _ in range(6) for part in (sweep(1.0), silence(3.0))]
    assert len(clips(*spoken, longest=10)) == 6
    together = clips(*spoken)
    assert 1 < len(together) < 6
    assert all(last - first <= WINDOW / 100 for first, last in together)


def test_silence_has_no_voice():
    assert clips(silence(3.0)) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vad_threshold": -1.0}, "vad_threshold: expected 0 to 200 decibels, got -1.0"),
        ({"vad_speech_pad": float("nan")}, "vad_speech_pad: expected 0 to 86400 seconds, got nan"),
        ({"vad_min_silence": 0.5}, "vad_min_silence: expected more than 0.8 seconds, which is twice vad_speech_pad"),
    ],
)
def test_wrong_options(options: dict[str, float], said: str):
    with pytest.raises(UserError, match=said):
        TranscribeOptions(vad_filter=True, **options).check()
