"""What requests keep on the disk together has a bound, and a full disk is told as such."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
from max_whisper.errors import Cancelled
from max_whisper.runtime.audio import recording
from max_whisper.serve import pool, transcribing
from max_whisper.serve.app import create_app
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import gone
from max_whisper.serve.room import Room, Share
from max_whisper.serve.transcribing import Task
from support.in_process import admitted, by_wyoming, run, service_of
from support.server_fixtures import COMMANDS
from support.sounds import write_wav

NOTHING: Any = None  # the model of a task that only decodes


def full(size: int) -> None:
    raise OSError(errno.ENOSPC, "only 0 MB are free")


def test_decoded_sound_has_a_bound(tmp_path: Path) -> None:
    """Silence is nearly nothing as a file, and 115 MB an hour when it is decoded."""
    size = 2 * len(recording_of(COMMANDS))

    async def test() -> None:
        async with admitted() as work:
            service = work.service
            service.decoded = room = Room(size + 1)
            work.decoded = Share(room)
            task = Task(work, NOTHING, NOTHING)
            await work.run(lambda: task.decode(COMMANDS.open("rb"), "first"))
            assert room.left == 1
            with pytest.raises(RequestError) as refused:
                await work.run(lambda: task.decode(COMMANDS.open("rb"), "second"))
            assert (refused.value.status, refused.value.code) == (503, "no_room")
        assert room.left == size + 1

    run(test())


def recording_of(path: Path) -> recording.Recording:
    from max_whisper.runtime.audio.load import open_audio

    return open_audio(path)


def test_sound_that_is_decoded_twice_counts_once(tmp_path: Path) -> None:
    """Channels that cancel each other are decoded again, one alone."""
    one = np.sin(np.arange(16000) / 10).astype(np.float32) / 2
    path = write_wav(tmp_path / "opposite.wav", np.stack([one, -one], axis=1))

    async def test() -> None:
        async with admitted() as work:
            before = work.service.decoded.left
            decoded = await work.run(lambda: Task(work, NOTHING, NOTHING).decode(path.open("rb"), "opposite"))
            assert before - work.service.decoded.left == 2 * len(decoded) == 32000

    run(test())


def test_a_full_disk_while_a_file_is_decoded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, nano_artifact: Path
) -> None:
    monkeypatch.setattr(pool, "load", lambda folder: SimpleNamespace(folder=folder))
    monkeypatch.setattr(Task, "check", lambda self, options: None)
    monkeypatch.setattr(recording, "check_room", full)
    monkeypatch.setattr(transcribing, "IN_MEMORY", 0)

    async def test() -> None:
        app = create_app(service_of({"nano": nano_artifact}), lambda folder: {})
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1") as client:
            answer = await client.post("/v1/audio/transcriptions", files={"file": COMMANDS.read_bytes()})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_room")
        assert int(answer.headers["retry-after"]) > 0
        assert "only 0 MB are free" in caplog.text

    run(test())


def test_a_full_disk_while_somebody_speaks(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path) -> None:
    monkeypatch.setattr(pool, "load", lambda folder: SimpleNamespace(folder=folder))
    monkeypatch.setattr(recording, "check_room", full)
    monkeypatch.setattr("max_whisper.serve.wyoming.sound.IN_MEMORY", 0)
    head = {"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_length": 4}

    async def test() -> None:
        async with by_wyoming(service_of({"nano": nano_artifact})) as (reader, writer):
            writer.write(json.dumps(head).encode() + b"\n1234")
            assert b'"no_room"' in await reader.read()

    run(test())


def test_reading_raw_sound_ends_with_the_work() -> None:
    """Speech is looked for in hours of it."""

    async def test() -> None:
        async with admitted() as work:
            raw = Task(work, NOTHING, NOTHING).read_raw(io.BytesIO(bytes(32000)), "raw")
            assert len(raw[0:16000]) == 16000
            work.job.cancel(gone)
            with pytest.raises(Cancelled):
                raw[0:16000]

    run(test())
