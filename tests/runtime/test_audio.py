import io
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from max_whisper.errors import AudioError, MaxWhisperError, NoRoomError
from max_whisper.runtime.audio import decoding, isolation, load, recording
from max_whisper.runtime.audio.edits import has_many_edits
from max_whisper.runtime.audio.load import load_audio, open_audio
from max_whisper.runtime.audio.waveform import check_waveform
from support.sounds import encode, int16, noise, silence, sweep, write_tracks, write_wav

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
    code = "from max_whisper.runtime.audio.load import load_audio; print(load_audio('-').sum())"
    with subprocess.Popen(["cat", file], stdout=subprocess.PIPE) as cat:
        done = subprocess.run([sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(float(load_audio(file).sum()), abs=1e-3)
    assert done.stderr == b""


def test_empty_standard_input():
    code = (
        "from max_whisper.errors import AudioError\nfrom max_whisper.runtime.audio.load import load_audio\n"
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

    monkeypatch.setattr(load.Path, "open", deny)  # root may read everything
    refused(tmp_path / "secret.wav", "secret.wav may not be read by this user", "permissions")


def test_broken_disk():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if size:
                raise OSError(5, "Input/output error")
            return b""

    refused(Broken(bytes(1000)), "cannot be read (Input/output error)")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RuntimeError("gone")])
@pytest.mark.parametrize("kind", ["wav", "mp4", "ac3"])
def test_a_disk_that_breaks_later(tmp_path, capfd, kind, error):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 3000:
                raise error
            return super().read(min(size, 1000))

    refused(Broken(make(tmp_path, kind).read_bytes()), "the audio stream cannot be read (")
    assert capfd.readouterr() == ("", "")


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


def limit_hours(monkeypatch, hours):
    for module in (load, recording):
        monkeypatch.setattr(module, "MAX_HOURS", hours)


def test_too_long(tmp_path, monkeypatch):
    limit_hours(monkeypatch, 0.001)
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


# What a file can reach: containers and codecs, absurd headers, bounds.


def test_what_killed_ffmpeg_is_not_opened(tmp_path):
    file = encode(tmp_path / "a.adx", sweep(1, 44100), codec="adpcm_adx")
    damaged = bytearray(file.read_bytes())
    damaged[6] = 0  # a division by zero in FFmpeg, whatever the file is called
    (tmp_path / "damaged.wav").write_bytes(damaged)
    refused(file, "a.adx is in the container 'adx'", "convert it to wav")
    refused(tmp_path / "damaged.wav", "damaged.wav is in the container 'adx'")


def test_other_codecs_are_named(tmp_path):
    refused(
        encode(tmp_path / "a.wav", sweep(1, 16000), 16000, "adpcm_yamaha"), "in the codec 'adpcm_yamaha'", "convert"
    )


ABSURD = {
    "tag": (0, 2, 3, 0x11, 0x31, 0x45, 0x55, 0x92, 0x674F, 0xFFFE, 0xFFFF),
    "bits": (0, 128, 255, 65535),
    "channels": (0, 9, 33, 64, 255, 65535),
    "rate": (0, 1, 999, 768_001, 2**31 - 1, 2**31, 2**32 - 1),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in ABSURD.items() for value in values])
def test_absurd_fields_of_a_header(field, value):
    fields = {"tag": 1, "channels": 1, "rate": 16000, "bits": 16, field: value}
    tag, channels, rate, bits = fields.values()
    size = channels * bits // 8
    header = struct.pack("<HHIIHH", tag, channels, rate, rate * size % 2**32, size % 2**16, bits)
    data = int16(noise(1)).tobytes()
    file = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + header + b"data" + struct.pack("<I", len(data)) + data
    refused(io.BytesIO(file), "the audio stream")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a"),
        AttributeError("a"),
        MemoryError(),
        OverflowError("\x1b[2J"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a"),
    ],
)
@pytest.mark.parametrize("where", ["open", "AudioResampler"])
def test_whatever_the_library_raises_is_one_sentence(tmp_path, monkeypatch, error, where):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(decoding.av, where, fail)
    refused(write_wav(tmp_path / "a.wav", noise(1)), "the sound of", "a.wav cannot be decoded")


@pytest.mark.parametrize(
    "kind", [("a.m4a", "aac", "7.1"), ("a.wv", "wavpack", "7.1"), ("b.wv", "wavpack", "hexadecagonal")]
)
def test_many_channels(tmp_path, kind):
    name, codec, layout = kind
    heard = load_audio(encode(tmp_path / name, sweep(1, 48000), 48000, codec, layout))
    assert likeness(heard, sweep(1)) > 0.9  # PyAV reads beyond its table of planes here


def test_a_header_that_claims_gigabytes(tmp_path):
    header = wav_header(16000)[:36] + b"LIST" + struct.pack("<I", 0x7F000000) + b"INFOISFT" + bytes(2000)
    file = tmp_path / "a.wav"
    file.write_bytes(header + b"\x7f" * 4 + bytes(2000))
    code = (
        "import sys\nfrom max_whisper.errors import AudioError\n"
        "from max_whisper.runtime.audio.load import open_audio\n"
        "def peak(): return int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) >> 10\n"
        "before = peak()\n"
        "try: open_audio(sys.argv[1])\nexcept AudioError: pass\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, check=True)
    assert int(done.stdout) < 100


def test_wrong_types_of_source_and_track(tmp_path):
    for source in (None, 5, 1.5, b"a.wav", [], noise(1), object()):
        refused(source, "the audio source is of type", "expected a path")
    file = write_wav(tmp_path / "a.wav", noise(1))
    for track in (True, 1.0, "1", [0]):
        with pytest.raises(AudioError, match="track is of type"):
            load_audio(file, track=track)
    for path in ("", "\0", "\ud800.wav", "x" * 5000, "a\nb\x1b[2J.wav", "~nobody-there/a.wav"):
        refused(path)


def test_names_are_safe_to_print(tmp_path, caplog):
    whole = make(tmp_path, "flac").read_bytes()
    file = tmp_path / "a\x1b[2J\nb.flac"
    file.write_bytes(whole[: len(whole) // 2])
    load_audio(file)
    (warning,) = caplog.messages
    assert warning.isprintable() and "a\\x1b[2J\\nb.flac is damaged" in warning


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_wav(tmp_path / "a.wav", noise(1))
    assert len(load_audio("~/a.wav")) == 16000
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    write_wav(tmp_path / "~" / "a.wav", noise(2))
    assert len(load_audio("~/a.wav")) == 32000


# Pipes, devices and the temporary folder.


class Endless(io.RawIOBase):
    """What a program gives that never stops."""

    def __init__(self, begin=b""):
        self.begin, self.given = begin, 0

    def readable(self):
        return True

    def read(self, size=-1):
        data = self.begin[self.given : self.given + size] or bytes(max(size, 0))
        self.given += len(data)
        return data


def test_a_pipe_without_end(monkeypatch):
    noisy = Endless()
    refused(noisy, "does not begin as an audio or video file")
    assert noisy.given < 10 << 20
    monkeypatch.setattr(load, "MAX_PIPE_BYTES", 8 << 20)
    music = Endless(wav_header(16000) + int16(noise(100)).tobytes())
    refused(music, "gave more than 8 MB and did not end")
    assert music.given < 20 << 20


def test_devices_without_end():
    refused("/dev/zero", "/dev/zero does not begin as an audio")
    refused("/proc/self/maps", "/proc/self/maps")


def test_closed_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    refused("-", "there is no standard input")


def test_a_named_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "PIPE_SECONDS", 0.2)
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    refused(pipe, "is a named pipe", "nobody wrote")
    file = write_wav(tmp_path / "a.wav", noise(1))
    monkeypatch.setattr(load, "PIPE_SECONDS", 60)
    with subprocess.Popen(["sh", "-c", 'sleep 0.2; cat "$0" > "$1"', file, pipe]):
        assert (load_audio(pipe) == load_audio(file)).all()


def test_a_pipe_that_is_not_blocking(tmp_path):
    file = write_wav(tmp_path / "a.wav", noise(10))
    code = (
        "import os; os.set_blocking(0, False)\nfrom max_whisper.runtime.audio.load import open_audio\n"
        "print(len(open_audio('-')))"
    )
    slow = ["sh", "-c", 'head -c 100000 "$0"; sleep 1; tail -c +100001 "$0"', file]
    with subprocess.Popen(slow, stdout=subprocess.PIPE) as cat:
        done = subprocess.run([sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, check=True)
    assert int(done.stdout) == 160000


def test_a_full_temporary_folder_is_not_the_fault_of_the_audio(tmp_path, monkeypatch):
    file = write_wav(tmp_path / "a.wav", noise(3))
    monkeypatch.setattr(load, "IN_MEMORY", 1000)  # of the copy of a pipe
    assert len(open_audio(file, in_memory=1000)) == 48000

    def full(_):
        return os.statvfs_result((4096, 4096, 1000, 10, 10, 0, 0, 0, 0, 255))

    def blamed(source):
        with pytest.raises(NoRoomError, match=r"the temporary folder .* cannot take the sound .* TMPDIR") as caught:
            open_audio(source, in_memory=1000)
        assert caught.value.exit_code == 1

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", full)
        blamed(file)
        blamed(Endless())

    class Full:
        closed = False

        def __init__(self, *_):
            pass

        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            closed, self.closed = self.closed, True
            if not closed:  # only the first time is what was buffered written
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Full)
    blamed(file)


def test_nothing_fills_a_small_disk(tmp_path):
    """RLIMIT_FSIZE stands for the disk that is full."""
    file = tmp_path / "a.wav"
    file.write_bytes(wav_header(8000) + bytes(2 * 8000 * 600))
    code = (
        "import resource, signal, sys\nfrom max_whisper.errors import MaxWhisperError\n"
        "from max_whisper.runtime.audio import load\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))\n"
        "try: load.open_audio(sys.argv[1], in_memory=1 << 20)\nexcept MaxWhisperError as e: print(e.exit_code, e)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, check=True)
    assert done.stdout.startswith(b"1 the temporary folder")
    assert done.stderr == b""


# The child process.


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_process_gives_the_same_samples(tmp_path, kind):
    file = make(tmp_path, kind)
    expected = load_audio(file)
    assert (open_audio(file, isolated=True)[:] == expected).all()
    assert (open_audio(io.BytesIO(file.read_bytes()), isolated=True)[:] == expected).all()


def test_the_child_says_what_this_process_would(tmp_path, caplog):
    file = make(tmp_path, "flac")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    load_audio(file)
    open_audio(file, isolated=True)
    assert caplog.messages[0] == caplog.messages[1]
    samples = sweep(1)
    samples[8000] = np.nan
    with pytest.raises(AudioError, match="NaN or infinity"):
        open_audio(encode(tmp_path / "a.wav", samples, 16000, "pcm_f32le"), isolated=True)


@pytest.fixture
def child_that(tmp_path, monkeypatch):
    """Replaces the program of the child process."""

    def replace(code):
        script = tmp_path / "child.py"
        script.write_text("import os, signal, sys, time\n" + code)
        monkeypatch.setattr(isolation, "CHILD", script)

    return replace


@pytest.mark.parametrize("signal_name", ["SIGSEGV", "SIGFPE", "SIGABRT", "SIGKILL", "SIGXCPU"])
def test_a_child_may_die(tmp_path, child_that, signal_name):
    child_that(
        f"""os.write(2, b'{{"ready": true}}\\n'); os.write(1, bytes(99)); os.kill(os.getpid(), signal.{signal_name})"""
    )
    file = make(tmp_path, "ac3")
    refused(file, "sound.ac3 ended the process that decodes it", signal_name)
    assert len(load_audio(make(tmp_path, "wav"))) == 32000


def test_a_child_may_hang(tmp_path, child_that, monkeypatch):
    child_that("""os.write(2, b'{"ready": true}\\n'); time.sleep(100)""")
    monkeypatch.setattr(isolation, "STALLED_SECONDS", 0.2)
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0)
    refused(make(tmp_path, "ac3"), "made no progress")


def test_a_child_may_give_no_end(tmp_path, child_that, monkeypatch):
    child_that("""os.write(2, b'{"ready": true}\\n')\nwhile True: os.write(1, bytes(65536))""")
    limit_hours(monkeypatch, 0.01)
    refused(make(tmp_path, "ac3"), "is longer than 0.01 hours")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("sys.exit(3)", "install max-whisper again"),
        ("import nothing_of_that_name", "install max-whisper again"),
        ("os.kill(os.getpid(), 9)", "try again"),
    ],
)
def test_a_child_that_does_not_start_is_no_fault_of_the_audio(tmp_path, child_that, code, remedy):
    child_that(code)
    with pytest.raises(MaxWhisperError, match=rf"could not be started \(.+\): {remedy}") as caught:
        load_audio(make(tmp_path, "ac3"))
    assert caught.value.exit_code == 1


def test_the_child_is_bounded(tmp_path, child_that):
    child_that(
        f"sys.path[:] = {sys.path!r}; import json, resource\n"
        "from max_whisper.runtime.audio import child\nos.write(2, b'{\"ready\": true}\\n'); child._set_bounds()\n"
        "def tried(what):\n"
        "    try: what()\n"
        "    except (OSError, MemoryError) as e: return type(e).__name__\n"
        "said = [tried(lambda: bytes(2 << 30)), tried(lambda: open('/etc/hostname'))]\n"
        "said = f'{said}, {resource.getrlimit(resource.RLIMIT_CPU)[0]} s'\n"
        "os.write(2, json.dumps({'error': said}).encode()); os._exit(0)"
    )
    refused(make(tmp_path, "ac3"), "['MemoryError', 'OSError'", "3600 s")


# Channels and tracks.


@pytest.mark.parametrize("isolated", [False, True])
def test_channels_that_cancel_each_other(tmp_path, caplog, isolated):
    sound = sweep(3)
    file = write_wav(tmp_path / "a.wav", np.stack([0.97 * sound, -sound], axis=1))
    heard = open_audio(file, isolated=isolated)[:]
    assert likeness(heard, -sound) > 0.999
    assert np.abs(heard).max() == pytest.approx(0.5, abs=0.01)
    assert "channel 1, counted from 0, was taken alone" in caplog.text


def test_channels_that_nearly_cancel_each_other(tmp_path, caplog):
    sound = sweep(3)
    heard = load_audio(write_wav(tmp_path / "a.wav", np.stack([sound, -0.98 * sound], axis=1)))
    assert (heard == int16(sound) / np.float32(32768)).all()
    assert "the channels of" in caplog.text and "channel 0, counted from 0, was taken alone" in caplog.text


def test_channels_that_cancel_each_other_for_a_while(tmp_path, caplog):
    one, other = noise(3), noise(7, seed=1)
    both = np.concatenate([np.stack([one, -one], axis=1), np.stack([other, other], axis=1)])
    heard = load_audio(write_wav(tmp_path / "a.wav", both))
    assert np.abs(heard[:48000]).max() < 1e-3  # as ffmpeg gives it
    assert "cancel each other (opposite phase) in" in caplog.text


@pytest.mark.parametrize("right", [0.0, 0.1, 1.0])
def test_other_stereo_is_mixed_without_a_word(tmp_path, caplog, right):
    load_audio(write_wav(tmp_path / "a.wav", np.stack([sweep(3), right * noise(3)], axis=1)))
    load_audio(encode(tmp_path / "a.ac3", sweep(3, 48000), 48000, "ac3", "5.1"))
    load_audio(write_wav(tmp_path / "b.wav", np.stack([silence(3), silence(3)], axis=1)))
    assert caplog.messages == []


def amplitude(heard):
    """Of a sine."""
    return float(np.sqrt(2 * np.mean(heard[2000:-2000] ** 2)))


def boxes(entries: int) -> bytes:
    """The boxes of an mp4 with an edit list in its index."""
    elst = (24).to_bytes(4, "big") + b"elst" + bytes(4) + entries.to_bytes(4, "big") + bytes(8)
    moov = (8 + len(elst)).to_bytes(4, "big") + b"moov" + elst
    return (8).to_bytes(4, "big") + b"ftyp" + moov + (0).to_bytes(4, "big") + b"mdat" + bytes(100)


@pytest.mark.parametrize(
    ("content", "many"),
    [(boxes(2), False), (boxes(50), False), (boxes(51), True), (boxes(2**31), True), (b"", False), (b"RIFF", False)],
    ids=["2", "50", "51", "2**31", "empty", "wav"],
)
def test_long_edit_lists_are_for_a_child(content: bytes, many: bool):
    file = io.BytesIO(content)
    assert has_many_edits(file) == many
    assert file.tell() == 0


def test_tracks(tmp_path, caplog):
    file = write_tracks(
        tmp_path / "a.mkv", [("eng", "Main", 0.1), ("deu", "\x1b[2J" + "x" * 9999, 0.2), ("fra", "", 0.3)]
    )
    assert [amplitude(load_audio(file, track=track)) for track in range(3)] == pytest.approx([0.1, 0.2, 0.3], rel=0.1)
    assert caplog.messages == []
    assert (load_audio(file) == load_audio(file, track=0)).all()
    (warning,) = caplog.messages
    assert "3 audio tracks: 0 (eng, 'Main', aac, 1 channel), 1 (deu, '\\x1b[2Jxx" in warning
    assert "track 0 was taken" in warning and "--audio-track" in warning
    assert warning.isprintable() and len(warning) < 600
    for track in (3, -1, 10**30):
        with pytest.raises(
            AudioError, match=r"has no audio track .* expected one of 0 \(eng, 'Main', aac, 1 channel\), 1"
        ):
            load_audio(file, track=track)
    assert (open_audio(file, track=2, isolated=True)[:] == load_audio(file, track=2)).all()


def test_the_track_that_ffmpeg_takes(tmp_path):
    tracks = [("eng", "", 0.1), ("eng", "", 0.2, "stereo"), ("eng", "", 0.3, "stereo"), ("eng", "", 0.4)]
    for file, default, expected in [("a.ts", None, 0.2), ("a.mkv", 0, 0.1), ("b.mkv", 2, 0.3), ("c.mp4", 3, 0.4)]:
        assert amplitude(load_audio(write_tracks(tmp_path / file, tracks, default))) == pytest.approx(expected, rel=0.1)


# Damage, and what only looks like it.


def test_pauses_are_not_damage(tmp_path, caplog):
    file = encode(tmp_path / "a.amr", sweep(2, 8000), 8000, "libopencore_amrnb")
    header, speech = file.read_bytes()[:6], file.read_bytes()[6:]
    nothing, comfort_noise = b"\x7c", b"\x44\x7f\x13\xfb\xb2\xe0"
    file.write_bytes(header + speech + comfort_noise + 20 * nothing + speech)
    assert len(load_audio(file)) == pytest.approx(64000, abs=1000)
    assert caplog.messages == []
    file.write_bytes(header + speech + b"\x4c" + bytes(6) + speech)  # a frame type that there is not
    load_audio(file)
    assert "is damaged or cut off" in caplog.text


def test_joined_files_are_not_damage(tmp_path, caplog):
    one = make(tmp_path, "mp3").read_bytes()
    picture = np.random.default_rng(0).bytes(300_000)
    size = bytes(len(picture) >> shift & 127 for shift in (21, 14, 7, 0))
    tags = [b"ID3\x04\0\0" + size + picture, b"TAG" + bytes(125), b"APETAGEX\xd0\x07\0\0" + bytes(1000)]
    alone = len(load_audio(io.BytesIO(one)))
    heard = load_audio(io.BytesIO(one + tags[1] + tags[0] + one + tags[2] + one))
    assert len(heard) == pytest.approx(3 * alone, abs=4000)
    assert caplog.messages == []
    damaged = bytearray(one)
    damaged[4000:6000] = bytes(2000)
    load_audio(io.BytesIO(damaged))
    assert "is damaged or cut off" in caplog.text
