"""Bazarr's requests are answered as whisper-asr-webservice answers them; texts are those of `Model.transcribe`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
from max_whisper import Model, load_audio, render
from support.server import Server
from support.server_fixtures import COMMANDS
from support.sounds import encode, int16, noise, without_tag


@pytest.fixture(scope="module")
def pcm() -> bytes:
    """Returns what Bazarr sends: the samples that ffmpeg makes of a video, without a header."""
    return int16(load_audio(COMMANDS)).tobytes()


def post(running: Server, path: str, sound: bytes, **params: object) -> httpx2.Response:
    """Sends a request as Bazarr does: a file without a name, and everything else in the address."""
    return running.post(path, params=params, files={"audio_file": sound})


@pytest.mark.parametrize("output", ["txt", "vtt", "srt", "tsv", "json"])
@pytest.mark.parametrize("encode", ["true", "false"])
def test_forms(shared: Server, nano: Model, pcm: bytes, output: str, encode: str) -> None:
    sound = COMMANDS.read_bytes() if encode == "true" else pcm
    answer = post(shared, "/asr", sound, task="transcribe", language="en", output=output, encode=encode)
    assert (answer.status_code, answer.text) == (200, render(nano.transcribe(COMMANDS, language="en"), output))
    assert answer.encoding == "utf-8"
    assert "filename" in answer.headers["content-disposition"]


def test_text_is_the_default(shared: Server, nano: Model) -> None:
    expected = render(nano.transcribe(COMMANDS), "txt")
    assert post(shared, "/asr", COMMANDS.read_bytes()).text == expected
    form = shared.post("/asr", data={"output": "txt", "language": ""}, files={"audio_file": COMMANDS.read_bytes()})
    assert form.text == expected


def test_options_reach_the_model(shared: Server, model: Model, brief: Path) -> None:
    sound = load_audio(brief)
    pcm = int16(sound).tobytes()
    asked = {
        "translate": ({"task": "translate", "language": "de"}, {"task": "translate", "language": "de"}),
        "prompt": ({"initial_prompt": "one two"}, {"initial_prompt": "one two"}),
        "words": ({"word_timestamps": "True"}, {"word_timestamps": True}),
    }
    for name, (fields, options) in asked.items():
        answer = post(shared, "/asr", pcm, model="multilingual", output="json", encode="0", **fields)
        assert answer.json() == json.loads(render(model.transcribe(sound, **options), "json")), name


def test_speech_alone(shared: Server, nano: Model, silero: object) -> None:
    answer = post(shared, "/asr", COMMANDS.read_bytes(), vad_filter="true", output="srt")
    assert answer.text == render(nano.transcribe(COMMANDS, vad_filter=True, vad_model=silero), "srt")


def test_language(shared: Server, model: Model, pcm: bytes) -> None:
    expected = model.detect_language(model.encode(model.windows(COMMANDS)[:1]))[0]
    code, probability = next(iter(expected.items()))
    for sound, encoded in ((pcm, "false"), (COMMANDS.read_bytes(), "true")):
        answer = post(shared, "/detect-language", sound, encode=encoded, model="multilingual").json()
        assert answer["language_code"] == code
        assert answer["detected_language"].islower()
        assert answer["confidence"] == pytest.approx(probability)
    english = post(shared, "/detect-language", pcm, encode="false", model="english").json()
    assert english == {"detected_language": "english", "language_code": "en", "confidence": 1.0}


def test_status(shared: Server) -> None:
    """Bazarr shows the version, and takes a server without one for none."""
    assert shared.get("/status").json()["version"].startswith("max-whisper ")


def test_a_file_that_is_said_to_be_raw(shared: Server, nano: Model, tmp_path: Path) -> None:
    mp3 = encode(tmp_path / "sound.mp3", load_audio(COMMANDS), 16000, "libmp3lame")
    for content in (COMMANDS.read_bytes(), without_tag(mp3.read_bytes())):
        answer = post(shared, "/asr", content, encode="false")
        assert answer.text == render(nano.transcribe(io.BytesIO(content)), "txt")


@pytest.mark.parametrize(
    ("params", "status", "sentence"),
    [
        ({"output": "xml"}, 400, "output: expected one of txt, vtt, srt, tsv, json, got 'xml'"),
        ({"outputs": "txt"}, 400, "unknown field 'outputs'; did you mean 'output'?"),
        ({"task": "sing"}, 400, "task: expected one of transcribe, translate"),
        ({"language": "klingon"}, 400, "unknown language 'klingon'"),
        ({"language": "de", "model": "english"}, 400, "German"),
        ({"encode": "maybe"}, 400, "encode: expected true or false"),
        ({"diarize": "true"}, 400, "who speaks cannot be told"),
        ({"min_speakers": "2"}, 400, "who speaks cannot be told"),
        ({"model": "large"}, 404, "The model 'large' does not exist"),
    ],
    ids=str,
)
def test_what_cannot_be_done(shared: Server, params: dict[str, str], status: int, sentence: str) -> None:
    answer = post(shared, "/asr", COMMANDS.read_bytes(), **params)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/asr", "/detect-language"])
@pytest.mark.parametrize("sound", [b"", b"x"], ids=["empty", "half a sample"])
def test_no_sound(shared: Server, path: str, sound: bytes) -> None:
    answer = post(shared, path, sound, encode="false")
    assert (answer.status_code, list(answer.json())) == (400, ["detail"])
    assert shared.left_files() == []


def test_damaged_and_missing_files(shared: Server) -> None:
    assert "audio_file" in shared.post("/asr", files={"audio": b"x"}).json()["detail"]
    assert "form" in shared.post("/asr", content=b"x").json()["detail"]
    for sound in (b"text, and no sound", COMMANDS.read_bytes()[:60]):
        answer = post(shared, "/asr", sound, video_file="/films/one.mkv")
        assert answer.status_code == 400
        assert "/films/one.mkv" in answer.json()["detail"]
    assert shared.get("/asr").status_code == 405


def test_any_bytes_are_samples(shared: Server) -> None:
    """What has no header is sound, an odd byte at the end is none."""
    for sound in (noise(1.0).tobytes()[:9999], np.arange(999, dtype=np.int16).tobytes()):
        answer = post(shared, "/asr", sound, encode="false", output="srt")
        assert answer.status_code == 200
    assert shared.left_files() == []
