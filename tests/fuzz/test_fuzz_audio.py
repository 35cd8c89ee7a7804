"""Fuzzes audio files: a damaged one gives a sentence or sound, never a crash, in little time and memory.

The kinds that are decoded in the process of whoever calls are tried in a process of their own (audio_worker.py), so
that a signal is a finding; the others as a user would meet them, through the child process. Of the first, 10,000
damaged files of each kind were tried before the kind was put on the list `formats.COMMON`; `--long` tries more.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import audio_worker
import av
import pytest
from max_whisper.errors import AudioError
from max_whisper.runtime.audio.formats import CODECS, COMMON, CONTAINERS
from max_whisper.runtime.audio.load import open_audio
from support.harness import Budget, refusal
from support.sounds import encode, sweep

PCM = "pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw".split()
IN_PROCESS = {
    **{f"{codec}.wav": {"codec": codec, "rate": 8000, "layout": "stereo"} for codec in PCM},
    "a.flac": {"codec": "flac", "layout": "stereo"},
    "a.mp3": {"codec": "libmp3lame", "layout": "stereo"},
    "flac.ogg": {"codec": "flac", "layout": "stereo"},
    "opus.ogg": {"codec": "libopus", "rate": 48000, "layout": "stereo"},
    "vorbis.ogg": {"codec": "vorbis", "rate": 44100, "layout": "stereo"},
    "a.aac": {"codec": "aac", "layout": "stereo"},
    "a.m4a": {"codec": "aac", "layout": "stereo"},
    "alac.m4a": {"codec": "alac"},
    "a.mp4": {"codec": "aac", "video": "libx264"},
    "opus.webm": {"codec": "libopus", "rate": 48000},
    "vorbis.webm": {"codec": "vorbis", "rate": 44100, "layout": "stereo", "video": "libvpx"},
    "aac.mkv": {"codec": "aac", "video": "libx264"},
    "flac.mkv": {"codec": "flac"},
    "mp3.mkv": {"codec": "libmp3lame", "video": "mpeg4"},
}
"""One file of each kind that is decoded in the process of the caller."""
IN_CHILD = {
    "a.3gp": {"codec": "libopencore_amrnb", "rate": 8000},
    "a.ac3": {"codec": "ac3", "rate": 48000, "layout": "5.1"},
    "a.amr": {"codec": "libopencore_amrnb", "rate": 8000},
    "a.aiff": {"codec": "pcm_s16be"},
    "a.au": {"codec": "pcm_s16be"},
    "a.avi": {"codec": "libmp3lame", "video": "mpeg4"},
    "a.caf": {"codec": "pcm_s16le"},
    "a.eac3": {"codec": "eac3", "rate": 48000},
    "a.flv": {"codec": "nellymoser", "rate": 8000},
    "a.mp2": {"codec": "mp2", "rate": 44100},
    "a.mpg": {"codec": "mp2", "rate": 44100},
    "a.ts": {"codec": "aac", "rate": 44100},
    "a.w64": {"codec": "pcm_s16le"},
    "a.wv": {"codec": "wavpack", "layout": "stereo"},
    "adpcm_ima.wav": {"codec": "adpcm_ima_wav"},
    "adpcm_ms.wav": {"codec": "adpcm_ms"},
    "g726.wav": {"codec": "g726", "rate": 8000},
    "pcm.mkv": {"codec": "pcm_s16le"},
}
"""One file of each kind that is not, of those that PyAV can write."""
REFUSED = {
    "a.adx": {"codec": "adpcm_adx", "rate": 44100},
    "a.nut": {"codec": "pcm_s16le"},
    "a.rm": {"codec": "ac3", "rate": 44100},
    "a.swf": {"codec": "libmp3lame", "rate": 44100},
    "a.tta": {"codec": "tta"},
    "a.voc": {"codec": "pcm_u8"},
    "yamaha.wav": {"codec": "adpcm_yamaha"},
}
"""Containers and codecs that are not read."""

BATCH = 50
SLOW = 5.0  # CPU seconds for a file of one second
MEGABYTES = 700  # the largest allocation of FFmpeg, and what there is beside it


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a file of each kind, one second long."""
    folder = tmp_path_factory.mktemp("sounds")
    for name, options in {**IN_PROCESS, **IN_CHILD, **REFUSED}.items():
        options = {"rate": 16000, **options}
        encode(folder / name, sweep(1, options["rate"]), **options)
    (folder / "header.wav").write_bytes((folder / "pcm_s16le.wav").read_bytes())
    return folder


def test_damage_to_what_is_decoded_in_this_process(sounds: Path, budget: Budget) -> None:
    files = [str(sounds / name) for name in [*IN_PROCESS, "header.wav"]]
    for number, _ in budget.cases(1, 30):
        options = ["--seed", str(budget.seed), "--first", str(number * BATCH), "--count", str(BATCH)]
        command = [sys.executable, audio_worker.__file__, *files, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        lines = done.stdout.splitlines()
        assert done.returncode == 0, f"{lines[-1:]} with {options}: exit code {done.returncode}\n{done.stderr[-2000:]}"
        assert done.stderr == ""
        results = [json.loads(line) for line in lines if line.startswith("{")]
        assert len(results) == len(files)
        for result in results:
            assert result["slowest"] < SLOW, f"{result} with {options}"
            assert result["grown_mb"] < MEGABYTES, f"{result} with {options}"


def test_damage_to_what_is_decoded_in_a_child(sounds: Path, budget: Budget) -> None:
    names = sorted({**IN_CHILD, **REFUSED})
    for _, rng in budget.cases(12, 10):
        file = sounds / f"damaged-{rng.choice(names)}"
        file.write_bytes(audio_worker.damage((sounds / file.name.removeprefix("damaged-")).read_bytes(), rng))
        refusal(lambda file=file: open_audio(file), kind=AudioError)


def test_noise_with_the_beginning_of_a_file(sounds: Path, budget: Budget) -> None:
    files = sorted(path for path in sounds.iterdir() if path.suffix != ".bin")
    for _, rng in budget.cases(6, 5):
        data = rng.choice(files).read_bytes()[: rng.randrange(4, 300)]
        file = sounds / "noise.bin"
        file.write_bytes(data + rng.randbytes(rng.choice([10, 1000, 100_000])))
        refusal(lambda file=file: open_audio(file), kind=AudioError)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_on_the_list_is_named(name: str, sounds: Path) -> None:
    sentence = refusal(lambda: open_audio(sounds / name), kind=AudioError)
    assert sentence is not None
    assert "which is not read here: convert it to wav" in sentence
    assert any(f"'{kind}'" in sentence for kind in (name.removeprefix("a."), "adpcm_yamaha"))


def test_all_that_is_on_the_list_is_tried(sounds: Path) -> None:
    assert set().union(*COMMON.values()) <= CODECS
    assert set(COMMON) <= CONTAINERS
    tried: dict[str, set[str]] = {}
    for name in IN_PROCESS:
        with av.open(sounds / name) as container:
            tried.setdefault(container.format.name, set()).add(container.streams.audio[0].codec_context.name)
    assert tried == COMMON


def test_a_case_can_be_repeated(sounds: Path) -> None:
    data = (sounds / "a.mp3").read_bytes()
    assert audio_worker.case(data, 0, 3) == audio_worker.case(data, 0, 3) != audio_worker.case(data, 0, 4)
    assert audio_worker.mend_ogg((sounds / "opus.ogg").read_bytes()) == (sounds / "opus.ogg").read_bytes()
    assert audio_worker.damage(b"", random.Random(0)) == b""
