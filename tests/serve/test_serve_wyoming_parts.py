"""A session of Wyoming and its socket by themselves, in this process."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest
from max_whisper.runtime.streaming.events import StreamEvent
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import stopping
from max_whisper.serve.listening import BACKLOG, listen
from support.in_process import admitted, by_wyoming, most_waiting, run, service_of, until, wyoming_server
from support.server import PATIENCE

NOTHING: Any = None


def test_formats_without_a_sample_take_no_memory(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path) -> None:
    """A client may change its mind as often as it likes, and what it said before is not kept."""
    from max_whisper.serve.wyoming import request

    made: list[Any] = []

    class Sound(request.Sound):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(request, "Sound", Sound)

    async def test() -> None:
        async with by_wyoming(service_of({"nano": nano_artifact})) as (reader, writer):
            for number in range(100):
                data = {"rate": 16000, "width": 1 + number % 3, "channels": 1}
                writer.write(json.dumps({"type": "audio-start", "data": data}).encode() + b"\n")
            chunk = {"type": "audio-chunk", "data": {**data, "width": 3}, "payload_length": 4800}
            writer.write(json.dumps(chunk).encode() + b"\n" + bytes(4800) + b'{"type": "audio-stop"}\n')
            told = b""
            while b"transcript-stop" not in told:
                told += await asyncio.wait_for(reader.readline(), PATIENCE)
        (sound,) = made
        assert sound._storage.file.closed
        assert sound._header == request.Format(16000, 3, 1).header()

    run(test())


def test_who_is_cancelled_leaves_nothing_that_nobody_awaits(recwarn: pytest.WarningsRecorder) -> None:
    from max_whisper.serve.wyoming.connection import Connection

    async def test() -> None:
        async with admitted() as work:
            connection = Connection(NOTHING, asyncio.StreamReader(), NOTHING)
            with connection.interrupted(work):
                work.job.cancel(stopping)
                await asyncio.sleep(0)
                with pytest.raises(RequestError) as told:
                    await connection.head(work)
            assert told.value.code == "server_stopping"

    run(test())
    gc.collect()
    assert [text for warning in recwarn if "never awaited" in (text := str(warning.message))] == []


def test_a_hang_up_is_seen_where_nothing_is_read(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path) -> None:
    """A client has sent more than the stream takes while its request is worked on."""
    ended: list[bool] = []

    class Busy:
        busy = False

        def __init__(self, service: Any, connection: Any, closed: Any, hears_pauses: bool) -> None:
            self._closed = closed

        async def run(self) -> None:
            await self._closed()
            ended.append(True)

    monkeypatch.setattr("max_whisper.serve.wyoming.server.Session", Busy)

    async def test() -> None:
        async with by_wyoming(service_of({"nano": nano_artifact})) as (_, writer):
            writer.write(bytes(160 << 10))
            await writer.drain()
            await asyncio.sleep(0.2)
            assert not ended
            writer.close()
            await asyncio.wait_for(wait(), 5)

    async def wait() -> None:
        while not ended:
            await asyncio.sleep(0.05)

    run(test())


def test_many_may_connect_at_once(nano_artifact: Path) -> None:
    async def test() -> None:
        with listen("127.0.0.1", 0) as listener:
            before = most_waiting(listener)
            assert before == min(BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))
            async with wyoming_server(service_of({"nano": nano_artifact}), listener):
                assert most_waiting(listener) == before

    run(test())


def test_a_stream_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, nano_artifact: Path
) -> None:
    """What was told stays told; the client gets an error, and no text that lacks what was said."""
    from max_whisper.serve.live.fed_stream import FedStream
    from max_whisper.serve.wyoming import live

    class Failing:
        def feed(self, chunk: bytes) -> list[StreamEvent]:
            if chunk == b"second":
                raise RuntimeError("a bug")
            return [StreamEvent("final", 0, 0.0, 1.0, " hello", language="en")]

        def cancel(self) -> None:
            """Does nothing."""

    stub: Any = Failing()
    monkeypatch.setattr(live, "open_stream", lambda task, format, options: FedStream(task, stub, format))
    monkeypatch.setattr(live, "FED_SECONDS", 0.0)

    def chunk(sound: bytes) -> bytes:
        data = {"rate": 16000, "width": 2, "channels": 1}
        head = {"type": "audio-chunk", "data": data, "payload_length": len(sound)}
        return json.dumps(head).encode() + b"\n" + sound

    async def test() -> None:
        service = service_of({"nano": nano_artifact})
        async with by_wyoming(service) as (reader, writer):
            writer.write(b'{"type": "transcribe"}\n' + chunk(b"first"))
            told = b""
            while b"hello" not in told:
                told += await asyncio.wait_for(reader.read(1000), PATIENCE)
            assert b"transcript-chunk" in told
            writer.write(chunk(b"second"))
            rest = await asyncio.wait_for(reader.read(), PATIENCE)
            assert b'"error"' in rest
            assert b"bug of max-whisper" in rest
            assert b"transcript" not in rest
        await until(lambda: not service.running)
        assert service.places.has_room

    run(test())
    assert "a bug" in caplog.text
