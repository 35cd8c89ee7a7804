import json
from pathlib import Path

import numpy as np
import pytest
from golden.make_mel import GOLDEN, golden_sounds
from max_whisper.errors import AudioError
from max_whisper.mel_filters import mel_filters
from max_whisper.runtime.audio import load, mel
from max_whisper.runtime.audio.mel import log_mel
from support.sounds import int16, noise, silence, sweep, write_wav

HUB = Path(__file__).resolve().parents[3] / "shared" / "hub"


def exact(samples, n_mels, padding):
    """The definition, in float64 and all at once."""
    padded = np.pad(np.pad(np.asarray(samples, np.float64), (0, padding)), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, len(padded) - 400 + 1, 160)
    power = np.array([np.abs(np.fft.rfft(padded[i : i + 400] * window)) ** 2 for i in starts])[:-1]
    mel = np.log10(np.maximum(mel_filters(n_mels).astype(np.float64) @ power.T, 1e-10))
    return (np.maximum(mel, mel.max() - 8) + 4) / 4


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", golden_sounds())
def test_equals_openai_whisper(name, n_mels):
    samples, padding = golden_sounds()[name]
    golden = np.load(GOLDEN)[f"{name} {n_mels}"]
    mel = log_mel(samples, n_mels, padding=padding)
    assert mel.dtype == np.float32
    assert mel.shape == golden.shape
    # Far from a pure tone there is nothing but the rounding of the FFT, and that of the reference is the larger one.
    np.testing.assert_allclose(mel, golden, rtol=0, atol=6e-5 if name == "sweep" else 1e-5)


@pytest.mark.parametrize("n_mels", [1, 4, 80, 128, 300])  # of 300 filters some see no frequency at all
@pytest.mark.parametrize("padding", [0, 100, 161, 5000])
@pytest.mark.parametrize("samples", [noise(0.7), sweep(0.5), noise(1.3)[:20481], noise(1)[:201], noise(3)], ids=len)
def test_equals_the_definition(samples, padding, n_mels):
    np.testing.assert_allclose(log_mel(samples, n_mels, padding=padding), exact(samples, n_mels, padding), 0, 2e-5)


@pytest.mark.parametrize(("seconds", "padding"), [(30, 0), (2, 480000), (0.1, 300)])
def test_silence_is_exact(seconds, padding):
    mel = log_mel(silence(seconds), 80, padding=padding)
    assert mel.shape == (80, (round(seconds * 16000) + padding) // 160)
    assert (mel == -1.5).all()


def test_one_window_has_3000_frames():
    assert log_mel(silence(30), 128).shape == (128, 3000)


def test_floor_is_of_the_whole_recording():
    mel = log_mel(np.concatenate([noise(20) * 1e-4, noise(20)]), 80)
    assert mel[:, :1000].min() == mel.max() - 2  # 8 in log10


def test_takes_every_kind_of_waveform():
    samples = int16(noise(0.5))
    expected = log_mel(samples, 80)
    assert (log_mel(samples / np.float32(32768), 80) == expected).all()
    assert (log_mel(samples / 32768.0, 80) == expected).all()


def test_short_sound_needs_padding():
    with pytest.raises(AudioError, match=r"200 samples \(12.5 ms\), expected at least 201"):
        log_mel(noise(1)[:200], 80)
    assert log_mel(noise(1)[:1], 80, padding=480000).shape == (80, 3000)


def test_refuses_what_is_no_sound():
    with pytest.raises(AudioError, match="not finite"):
        log_mel(np.full(16000, np.nan, np.float32), 80)


def test_waveform_is_left_alone():
    samples = noise(1)
    before = samples.copy()
    log_mel(samples, 80)
    assert (samples == before).all()


@pytest.mark.parametrize("n_mels", [40, 80, 128])
def test_filters_are_triangles_of_area_one(n_mels):
    filters = mel_filters(n_mels)
    assert filters.shape == (n_mels, 201)
    assert filters.dtype == np.float32
    assert (filters >= 0).all()
    assert (np.diff(filters.argmax(axis=1)) >= 0).all()
    np.testing.assert_allclose(filters[-10:].sum(axis=1) * 40, 1, atol=0.05)  # 40 Hz from one bin to the next


@pytest.mark.skipif(not HUB.is_dir(), reason="needs the preprocessor_config.json of checkpoints")
@pytest.mark.parametrize(
    ("n_mels", "model"), [(80, "whisper-tiny"), (80, "whisper-tiny.en"), (128, "whisper-large-v3")]
)
def test_filters_equal_the_shipped_ones(n_mels, model):
    shipped = json.loads((HUB / model / "preprocessor_config.json").read_text())["mel_filters"]
    np.testing.assert_allclose(mel_filters(n_mels), np.array(shipped).reshape(n_mels, 201), rtol=0, atol=1e-8)


@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_parts_have_the_bits_of_the_whole(monkeypatch, kept):
    monkeypatch.setattr(mel, "KEPT_BYTES", kept)
    samples = np.concatenate([noise(7.3, seed=4), silence(2.0), sweep(3.1)])
    whole = log_mel(samples, 80, padding=32000)
    parts = mel.LogMel(samples, 80, padding=32000)
    assert parts.frames == whole.shape[1]
    for first, last in [(0, 200), (1, 2), (127, 129), (128, 256), (700, 1000), (1100, 1440), (1300, 1440), (5, 5)]:
        assert np.array_equal(parts.part(first, last), whole[:, first:last])


def test_a_recording_on_disk_is_the_one_in_memory(tmp_path):
    file = write_wav(tmp_path / "long.wav", np.concatenate([sweep(9.0), noise(4.0)]))
    expected = load.load_audio(file)
    recording = load.open_audio(file, in_memory=1000)
    assert recording._pcm._rolled
    assert len(recording) == len(expected)
    assert np.array_equal(recording[1000:70000], expected[1000:70000])
    assert np.array_equal(log_mel(expected, 80), mel.LogMel(recording, 80).part(0, len(expected) // 160))
