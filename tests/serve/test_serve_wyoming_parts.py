"""A session of Wyoming and its socket by themselves, in this process."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import stopping
from max_whisper.serve.listening import BACKLOG, listen
from max_whisper.serve.service import Service
from support.in_process import admitted, by_wyoming, forever, most_waiting, run, service_of, wyoming_server

NOTHING: Any = None


def session_of(service: Service) -> Any:
    from max_whisper.serve.wyoming.session import Session

    return Session(service, NOTHING, asyncio.StreamReader(), NOTHING, forever)


def test_formats_without_a_sample_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may change its mind as often as it likes, and what it said before is not kept."""
    from max_whisper.serve.wyoming import session
    from max_whisper.serve.wyoming.frames import Head

    made: list[Any] = []

    class Sound(session.Sound):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(session, "Sound", Sound)

    async def test() -> None:
        async with admitted() as work:
            talk, sound = session_of(work.service), None
            for number in range(100):
                data = {"rate": 16000, "width": 1 + number % 3, "channels": 1}
                sound = talk._sound(Head("audio-start", data, 0), sound, work)
                assert sound.format.width == 1 + number % 3
        assert len(made) == 1
        assert made[0]._storage.file.closed
        assert made[0]._storage.size == 44  # one header

    run(test())


def test_who_is_cancelled_leaves_nothing_that_nobody_awaits(recwarn: pytest.WarningsRecorder) -> None:
    from max_whisper.serve.wyoming.frames import read_head

    async def test() -> None:
        async with admitted() as work:
            session = session_of(work.service)
            with session._interrupted(work):
                work.job.cancel(stopping)
                await asyncio.sleep(0)
                with pytest.raises(RequestError) as told:
                    await session._of_request(read_head(session._reader), work)
            assert told.value.code == "server_stopping"

    run(test())
    gc.collect()
    assert [text for warning in recwarn if "never awaited" in (text := str(warning.message))] == []


def test_a_hang_up_is_seen_where_nothing_is_read(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path) -> None:
    """A client has sent more than the stream takes while its request is worked on."""
    ended: list[bool] = []

    class Busy:
        busy = False

        def __init__(self, service: Any, info: Any, reader: Any, writer: Any, closed: Any) -> None:
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
