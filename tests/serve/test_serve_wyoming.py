"""Wyoming's own client speaks with the server; recordings have the texts of `Model.transcribe`.

What is transcribed while its sound comes, is tested in test_serve_wyoming_live.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from max_whisper import Model, load_audio
from support.server import Server, server
from support.server_fixtures import COMMANDS
from support.sounds import int16
from support.wyoming_client import AsyncTcpClient, Event, ask, ask_late, connected, listen, say_late, with_client
from wyoming.asr import Transcribe
from wyoming.info import Describe, Info
from wyoming.ping import Ping

pytestmark = pytest.mark.usefixtures("silero")
SOUND = load_audio(COMMANDS)
PCM = int16(SOUND).tobytes()


def test_description(shared: Server) -> None:
    """Home Assistant takes the first program, and the languages of its models."""

    async def talk(client: AsyncTcpClient) -> Event | None:
        await client.write_event(Describe().event())
        return await client.read_event()

    event = with_client(shared, talk)
    assert event is not None
    (program,) = Info.from_event(event).asr
    assert (program.installed, program.supports_transcript_streaming) == (True, True)
    models = {model.name: model for model in program.models}
    assert [*models] == ["nano", "multilingual", "english"]
    assert all(model.installed for model in program.models)
    assert {"de", "en"} <= {*models["multilingual"].languages}
    assert models["english"].languages == ["en"]


def test_a_transcript_comes_in_parts_and_as_a_whole(shared: Server, nano: Model) -> None:
    async def talk(client: AsyncTcpClient) -> list[Event]:
        await say_late(client, PCM, language="en")
        return await listen(client)

    start, *chunks, transcript, stop = with_client(shared, talk)
    expected = nano.transcribe(SOUND, language="en")
    assert (start.type, start.data["language"]) == ("transcript-start", "en")
    assert {chunk.type for chunk in chunks} == {"transcript-chunk"}
    assert len(chunks) == len([window for window in expected.windows if window.segments])
    assert "".join(chunk.data["text"] for chunk in chunks) == expected.text.strip()
    assert (transcript.type, transcript.data) == ("transcript", {"text": expected.text.strip(), "language": "en"})
    assert stop.type == "transcript-stop"


def test_many_requests_of_one_connection(shared: Server, nano: Model, model: Model) -> None:
    async def talk(client: AsyncTcpClient) -> list[str]:
        texts = []
        for asked in ({}, {"name": "multilingual", "language": "de-AT"}, {"language": "en"}, {}):
            await client.write_event(Ping("still there").event())
            pong = await client.read_event()
            assert pong is not None and (pong.type, pong.data) == ("pong", {"text": "still there"})
            texts.append(await ask_late(client, PCM, **asked))
        return texts

    nano_text = nano.transcribe(SOUND).text.strip()
    german = model.transcribe(SOUND, language="de").text.strip()
    assert with_client(shared, talk) == [nano_text, german, nano_text, nano_text]


def test_names_are_hotwords_as_far_as_they_fit(shared: Server, model: Model) -> None:
    async def talk(client: AsyncTcpClient) -> list[str]:
        names, terms = ["Tor", "Tür"], ["Licht"]
        asked = {"name": "multilingual", "language": "de"}
        few = await ask_late(client, PCM, **asked, transcript_names=names, transcript_terms=terms)
        return [few, await ask_late(client, PCM, **asked, transcript_names=[f"name {i}" for i in range(5000)])]

    few, many = with_client(shared, talk)
    plain = model.transcribe(SOUND, language="de").text.strip()
    assert few == model.transcribe(SOUND, language="de", hotwords="Tor, Tür, Licht").text.strip() != plain
    assert many != plain


@pytest.mark.parametrize(
    ("rate", "width", "channels"), [(48000, 2, 1), (44100, 4, 2), (16000, 3, 1), (8000, 1, 1)], ids=str
)
def test_formats(shared: Server, nano: Model, tmp_path: Path, rate: int, width: int, channels: int) -> None:
    """The text is that of a WAV file of the same samples. A stream would take 16 bits and one channel."""
    import wave

    at = np.arange(len(SOUND) * rate // 16000) * 16000 // rate
    wide = (
        (SOUND[at].astype(np.float64) * 2 ** (8 * width - 1))
        .round()
        .clip(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1)
    )
    wide = np.repeat(wide.astype(np.int64) + (128 if width == 1 else 0), channels)
    pcm = wide.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(pcm)
    expected = nano.transcribe(tmp_path / "sound.wav").text.strip()
    how = ask_late if (width, channels) == (2, 1) else ask
    assert with_client(shared, lambda client: how(client, pcm, rate, width, channels)) == expected
    shared.wait_until_idle()  # the connection is closed after the last event, and the request ends after that
    assert shared.left_files() == []


def test_long_sound_is_on_disk(shared: Server, nano: Model) -> None:
    long = np.tile(SOUND, 4 * 60 * 16000 // len(SOUND))
    assert len(long) * 2 > 4 << 20
    text = with_client(shared, lambda client: ask_late(client, int16(long).tobytes()))
    assert text == nano.transcribe(long).text.strip()
    shared.wait_until_idle()
    assert shared.left_files() == []


def test_no_sound_is_no_text(shared: Server) -> None:
    async def talk(client: AsyncTcpClient) -> list[str]:
        await client.write_event(Event("audio-stop"))
        first = await listen(client)
        return [next(event.data["text"] for event in first if event.type == "transcript"), await ask(client, b"")]

    assert with_client(shared, talk) == ["", ""]


def test_events_may_come_late_and_be_unknown(shared: Server, model: Model) -> None:
    """Chunks without a start, the language after the sound, and events that this server does not know."""

    async def talk(client: AsyncTcpClient) -> str:
        chunk = {"rate": 16000, "width": 2, "channels": 1}
        await client.write_event(Event("select-program", {"name": "max-whisper"}))
        await client.write_event(Event("audio-chunk", chunk, PCM))
        await client.write_event(Event("voice-stopped", {}, b"bytes that nobody needs"))
        await client.write_event(Transcribe(name="multilingual", language="de").event())
        await client.write_event(Event("audio-stop"))
        return next(event.data["text"] for event in await listen(client) if event.type == "transcript")

    assert with_client(shared, talk) == model.transcribe(SOUND, language="de").text.strip()


def test_bytes_that_nobody_needs(shared: Server, nano: Model) -> None:
    """Any event may have some, and what follows them is the next event."""
    chunk, more = {"rate": 16000, "width": 2, "channels": 1}, b"bytes\nthat nobody needs"

    async def talk(client: AsyncTcpClient) -> list[str]:
        await client.write_event(Event("transcribe", {"language": "en"}, more))
        await client.write_event(Event("audio-stop", {}, more))
        silent = await listen(client)
        await client.write_event(Event("audio-start", chunk, more))
        await client.write_event(Event("audio-chunk", chunk, PCM))
        await client.write_event(Event("transcribe", {"language": "en"}, more))
        await client.write_event(Event("audio-stop", {}, more))
        heard = await listen(client)
        return [event.data["text"] for event in [*silent, *heard] if event.type in ("transcript", "error")]

    assert with_client(shared, talk) == ["", nano.transcribe(SOUND, language="en").text.strip()]


def test_many_clients_at_once(shared: Server, nano: Model) -> None:
    parts = [SOUND[i * 16000 :] for i in range(8)]

    async def one(part: np.ndarray) -> str:
        async with connected(shared) as client:
            return await ask_late(client, int16(part).tobytes())

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one(part) for part in parts))

    assert asyncio.run(all_of_them()) == [nano.transcribe(part).text.strip() for part in parts]


def test_it_is_counted(shared: Server) -> None:
    before = shared.metric("max_whisper_requests_total", path="wyoming", status="200")
    with_client(shared, lambda client: ask(client, PCM))
    assert shared.metric("max_whisper_requests_total", path="wyoming", status="200") == before + 1


def test_a_command_does_not_wait_for_a_long_file(shared: Server, long_recording: Path, nano: Model) -> None:
    """An hour is sent by HTTP; a command by Wyoming has its answer long before that one has."""
    import threading

    ended = threading.Event()

    def transcribe() -> None:
        shared.post("/asr", files={"audio_file": long_recording.read_bytes()}, params={"encode": "true"})
        ended.set()

    thread = threading.Thread(target=transcribe, daemon=True)
    thread.start()
    text = with_client(shared, lambda client: ask(client, PCM))
    assert text == nano.transcribe(SOUND).text.strip()
    assert not ended.is_set()
    thread.join(120)


def test_without_the_option_there_is_no_port(model_options: list[str], tmp_path: Path) -> None:
    with server(tmp_path, *model_options) as plain:
        assert not [line for line in plain.lines if "tcp://" in line]


@pytest.mark.parametrize("text", ["", "x", "70000", ":1", "host:", "-1", "1e3", "host:٣"])
def test_wrong_ports(text: str) -> None:
    from max_whisper.errors import UserError
    from max_whisper.serve.listening import host_and_port

    with pytest.raises(UserError, match=r"--wyoming .*: expected \[HOST:\]PORT"):
        host_and_port(text, "--wyoming")


def test_ports() -> None:
    from max_whisper.serve.listening import host_and_port

    expected = {"10300": ("127.0.0.1", 10300), "0.0.0.0:1": ("0.0.0.0", 1), "[::1]:0": ("::1", 0)}
    assert {text: host_and_port(text, "--wyoming") for text in expected} == expected
