import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from max_whisper.errors import AudioError
from max_whisper.runtime import audio
from max_whisper.runtime.audio import load_audio
from max_whisper.runtime.waveform import check_waveform
from sounds import encode, int16, noise, silence, sweep, write_wav

KINDS = {
    "mp3": {"codec": "libmp3lame"},
    "flac": {"codec": "flac", "layout": "stereo"},
    "ogg": {"codec": "libopus", "rate": 48000},
    "webm": {"codec": "libopus", "rate": 48000, "layout": "stereo"},
    "m4a": {"codec": "aac"},
    "aac": {"codec": "aac", "layout": "stereo"},
    "wav": {"codec": "pcm_f32le", "layout": "stereo"},
    "aiff": {"codec": "pcm_s16be", "rate": 22050},
    "ac3": {"codec": "ac3", "layout": "5.1", "rate": 48000},
    "mp4": {"codec": "aac", "video": "mpeg4"},
    "mkv": {"codec": "libopus", "rate": 48000, "video": "mpeg4"},
}


def make(folder, kind, seconds=2.0, **options):
    options = {"rate": 44100, **KINDS[kind], **options}
    return encode(folder / f"sound.{kind}", sweep(seconds, options["rate"]), **options)


def likeness(heard, expected):
    """The correlation of two sounds, whatever the small shift that a codec caused."""
    middle = expected[2000:-2000]
    shift = int(np.correlate(heard, middle, "valid").argmax())
    return float(np.corrcoef(heard[shift : shift + len(middle)], middle)[0, 1])


def refused(source, *fragments):
    with pytest.raises(AudioError) as caught:
        load_audio(source)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_sound(tmp_path, kind):
    heard = load_audio(make(tmp_path, kind))
    assert heard.dtype == np.float32
    assert heard.ndim == 1
    assert len(heard) == pytest.approx(32000, abs=1200)
    assert likeness(heard, sweep(2)) > 0.9  # aac comes half a sample late


def test_16_khz_mono_is_exact(tmp_path):
    samples = noise(1)
    assert (load_audio(write_wav(tmp_path / "a.wav", samples)) == int16(samples) / np.float32(32768)).all()


def test_channels_are_averaged(tmp_path):
    left, right = sweep(1), noise(1)
    heard = load_audio(write_wav(tmp_path / "a.wav", np.stack([left, right], axis=1)))
    np.testing.assert_allclose(heard, (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_nothing_is_lost_at_the_end(tmp_path, rate):
    assert len(load_audio(write_wav(tmp_path / "a.wav", noise(1.5, rate), rate))) == pytest.approx(24000, abs=2)


def test_loud_floats_are_clipped(tmp_path):
    heard = load_audio(encode(tmp_path / "a.wav", sweep(1) * 4, rate=16000, codec="pcm_f32le"))
    assert heard.max() == np.float32(32767 / 32768)
    assert heard.min() == -1


def test_format_may_change_midway(tmp_path):
    one = encode(tmp_path / "1.aac", sweep(1, 44100), codec="aac", layout="stereo").read_bytes()
    two = encode(tmp_path / "2.aac", sweep(1, 22050), rate=22050, codec="aac").read_bytes()
    both = tmp_path / "both.aac"
    both.write_bytes(one + two + one)
    parts = [load_audio(tmp_path / "1.aac"), load_audio(tmp_path / "2.aac"), load_audio(tmp_path / "1.aac")]
    assert likeness(load_audio(both), np.concatenate(parts)) > 0.95


@pytest.mark.parametrize("kind", ["wav", "mp4"])
def test_standard_input_may_be_a_pipe(tmp_path, kind):
    file = make(tmp_path, kind)
    code = "from max_whisper.runtime.audio import load_audio; print(load_audio('-').sum())"
    with subprocess.Popen(["cat", file], stdout=subprocess.PIPE) as cat:
        done = subprocess.run([sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(float(load_audio(file).sum()), abs=1e-3)
    assert done.stderr == b""


def test_empty_standard_input():
    code = (
        "from max_whisper.errors import AudioError\nfrom max_whisper.runtime.audio import load_audio\n"
        "try: load_audio('-')\nexcept AudioError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"", capture_output=True, check=True)
    assert done.stdout.startswith(b"standard input is empty (0 bytes)")


def test_ffmpeg_does_not_write_to_stderr(tmp_path, capfd):
    text = tmp_path / "text.wav"
    text.write_text("no sound at all\n" * 100)
    refused(text)
    load_audio(make(tmp_path, "mp3"))
    assert capfd.readouterr() == ("", "")


def test_file_objects(tmp_path):
    file = make(tmp_path, "mp4")
    expected = load_audio(str(file))
    assert (load_audio(io.BytesIO(file.read_bytes())) == expected).all()
    with file.open("rb") as opened:
        assert (load_audio(opened) == expected).all()
        assert not opened.closed
    refused(io.BytesIO(), "the audio stream is empty (0 bytes)")
    refused(io.StringIO("text"), "open as text", "mode 'rb'")
    refused(noise(1), "the audio source is of type ndarray", "binary file object")


def test_no_file_stays_open(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    good, bad = make(tmp_path, "mp3"), tmp_path / "bad.wav"
    bad.write_text("no sound")
    load_audio(good)
    before = len(list(descriptors.iterdir()))
    for _ in range(10):
        load_audio(good)
        refused(bad)
    assert len(list(descriptors.iterdir())) == before


def test_no_such_file(tmp_path):
    refused(tmp_path / "no.wav", "there is no file", "no.wav", "check the path")
    refused("https://example.com/talk.mp3", "addresses are not opened", "download")
    refused("a\0b.wav", "cannot be opened")


def test_folder(tmp_path):
    refused(tmp_path, "is a folder", "one by one")


def test_unreadable(tmp_path, monkeypatch):
    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(audio.Path, "open", deny)  # root may read everything
    refused(tmp_path / "secret.wav", "secret.wav may not be read by this user", "permissions")


def test_broken_disk():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if size:
                raise OSError(5, "Input/output error")
            return b""

    refused(Broken(bytes(1000)), "cannot be read (Input/output error)")


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac"])
def test_no_sound_inside(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    file.touch()
    refused(file, f"a.{suffix} is empty (0 bytes)")
    for content in [b"This is a text.\n" * 200, bytes(20000), np.random.default_rng(0).bytes(20000)]:
        file.write_bytes(content)
        refused(file, f"a.{suffix}")


def test_zero_length(tmp_path):
    refused(write_wav(tmp_path / "a.wav", silence(0)), "a.wav has zero length")
    refused(encode(tmp_path / "a.flac", silence(0), codec="flac"), "a.flac has zero length")


def test_video_without_sound(tmp_path):
    refused(encode(tmp_path / "a.mp4", None, video="mpeg4"), "a.mp4 has no sound (it holds video)")


@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize(
    ("value", "fragment"),
    [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (-np.inf, "NaN or infinity"), (-20000.0, "20000")],
)
def test_impossible_samples(tmp_path, codec, value, fragment):
    samples = sweep(2)
    samples[20000] = value
    file = encode(tmp_path / "a.wav", samples, rate=16000, codec=codec, layout="stereo")
    refused(file, "a.wav holds samples", fragment, "after 1.")


@pytest.mark.parametrize("kind", ["mp3", "flac", "aac", "wav"])
def test_cut_off_file_gives_what_is_there(tmp_path, kind):
    file = make(tmp_path, kind)
    whole = load_audio(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    half = load_audio(file)
    assert 0.2 * len(whole) < len(half) < 0.9 * len(whole)
    np.testing.assert_allclose(half[:3000], whole[:3000], atol=1e-4)


def test_cut_off_index_is_an_error(tmp_path):
    file = make(tmp_path, "mp4")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(file, "damaged, cut off")


def test_damage_is_told(tmp_path, caplog):
    file = make(tmp_path, "flac")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    load_audio(file)
    assert "sound.flac is damaged or cut off" in caplog.text


def wav_header(rate, channels=1, data_size=2**32 - 1):
    fields = (16, 1, channels, rate, rate * 2 * channels % 2**32, 2 * channels, 16)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", *fields) + b"data" + struct.pack("<I", data_size)


def test_claimed_length_is_not_believed(tmp_path):
    file = tmp_path / "stream.wav"  # what a program that writes WAV into a pipe makes: 37 hours, so it says
    file.write_bytes(wav_header(16000) + int16(noise(1)).tobytes())
    assert len(load_audio(file)) == 16000


def test_wrong_headers(tmp_path):
    file = tmp_path / "a.wav"
    for header, fragment in [
        (wav_header(1), "claims 1 samples a second"),
        (wav_header(2**31 - 1), "cannot be"),
        (wav_header(16000, 64), "64 channels"),
        (wav_header(16000, 0), "cannot be decoded"),
    ]:
        file.write_bytes(header + int16(noise(1)).tobytes())
        refused(file, "a.wav", fragment)


def test_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "MAX_HOURS", 0.001)
    load_audio(write_wav(tmp_path / "a.wav", noise(3.5)))
    refused(write_wav(tmp_path / "b.wav", noise(4)), "b.wav is longer than 0.001 hours", "shorter")


def test_playlists_do_not_reach_other_files(tmp_path):
    sound = make(tmp_path, "mp3")
    hls = tmp_path / "list.m3u8"
    hls.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{sound}\n#EXT-X-ENDLIST\n")
    refused(hls, "list.m3u8")
    concat = tmp_path / "list.ffconcat"
    concat.write_text(f"ffconcat version 1.0\nfile {sound.name}\n")
    refused(concat, "list.ffconcat")


def test_device_is_empty():
    refused(os.devnull, "is empty")


def test_waveform_types():
    samples = noise(0.1)
    assert check_waveform(samples) is samples
    assert (check_waveform(samples.astype(np.float64)) == samples).all()
    assert check_waveform(samples.astype(np.float64)).dtype == np.float32
    assert (check_waveform(np.array([-32768, 16384], np.int16)) == np.array([-1, 0.5], np.float32)).all()
    assert check_waveform(np.array([1.5, -2.0])).max() == 1.5


@pytest.mark.parametrize(
    ("array", "fragment"),
    [
        (np.zeros(0, np.float32), "is empty"),
        (np.zeros((2, 100), np.float32), r"shape \[2, 100\].*mean"),
        (np.float32(1), r"shape \[\]"),
        (np.zeros(10, np.int32), "type int32"),
        (np.zeros(10, np.complex64), "type complex64"),
        (np.array(["a"]), "type <U1"),
        (np.array([0.0, np.nan]), "not finite"),
        (np.array([-np.inf, 0.0]), "not finite"),
        (np.array([0.0, -3e4]), "as large as 30000"),
    ],
)
def test_wrong_waveforms(array, fragment):
    with pytest.raises(AudioError, match=fragment):
        check_waveform(array)
