"""Tests that files are told from raw samples by how they begin."""

from __future__ import annotations

import io
from pathlib import Path

import max_whisper
import numpy as np
import pytest
from conftest import ROOT
from max_whisper.runtime.audio.headers import PROBED_BYTES, kind_of
from support.sounds import encode, int16, noise, silence, sweep, without_tag

AUDIO = ROOT / "examples" / "audio"
FRAMES = [("mp3", "libmp3lame", "an mp3 file"), ("aac", "aac", "an aac file")]
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("suffix", "codec", "kind"), FRAMES)
def test_frames_without_a_tag(tmp_path: Path, suffix: str, codec: str, kind: str, rate: int, layout: str) -> None:
    content = without_tag(encode(tmp_path / f"sound.{suffix}", noise(1.0, rate), rate, codec, layout).read_bytes())
    assert content[0] == 0xFF
    assert kind_of(content[:PROBED_BYTES]) == kind
    assert len(max_whisper.load_audio(io.BytesIO(content))) > 15000  # FFmpeg takes it, too


@pytest.mark.parametrize(
    ("suffix", "codec", "kind"),
    [
        ("mp3", "libmp3lame", "an mp3 file"),
        ("wav", "pcm_s16le", "a wav file"),
        ("flac", "flac", "a flac file"),
        ("ogg", "libopus", "an ogg file"),
        ("mkv", "aac", "a webm or mkv file"),
        ("m4a", "aac", "an mp4 file"),
    ],
)
def test_files(tmp_path: Path, suffix: str, codec: str, kind: str) -> None:
    file = encode(tmp_path / f"sound.{suffix}", sweep(), 48000, codec)
    assert kind_of(file.read_bytes()[:PROBED_BYTES]) == kind


@pytest.mark.parametrize("name", ["commands", "countdown", "spelling"])
def test_speech_from_any_sample_is_no_file(name: str) -> None:
    samples = int16(max_whisper.load_audio(AUDIO / f"{name}.flac")).tobytes()
    for first in range(0, len(samples), 2):
        assert kind_of(samples[first : first + PROBED_BYTES]) is None


def test_sounds_are_no_files() -> None:
    for sound in (sweep(), silence(), noise()):
        assert kind_of(int16(sound).tobytes()[:PROBED_BYTES]) is None
    for level in range(-32768, 32768):  # among them those of all headers
        assert kind_of(np.full(PROBED_BYTES // 2, level, "<i2").tobytes()) is None


def test_frames_that_do_not_follow_each_other(tmp_path: Path) -> None:
    content = without_tag(encode(tmp_path / "sound.mp3", noise(), codec="libmp3lame").read_bytes())
    assert kind_of(content[:PROBED_BYTES]) == "an mp3 file"
    assert kind_of(content[:4] + b"\0" + content[4:PROBED_BYTES]) is None
    other = without_tag(encode(tmp_path / "other.mp3", noise(), 48000, "libmp3lame").read_bytes())
    one = content.index(content[:2], 4)
    assert kind_of(content[:one] + other[:PROBED_BYTES]) is None
    assert kind_of(content[:one]) is kind_of(b"") is kind_of(b"\xff\xfb") is None
