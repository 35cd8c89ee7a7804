"""Answers say what is wrong with a recording, and which field of a request is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
from max_whisper.serve.app import create_app
from support.in_process import run, service_of
from support.server_fixtures import COMMANDS

TRANSCRIPTIONS = "/v1/audio/transcriptions"


def with_client(folder: Path, test: Callable[[httpx2.AsyncClient], Awaitable[None]], key: str | None = None) -> None:
    """Runs a test with a client of an application in this process, whose model is nano."""

    async def running() -> None:
        service = service_of({"nano": folder})
        transport = httpx2.ASGITransport(create_app(service, lambda folder: {}, key))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
            await test(client)
        service.close()

    run(running())


def test_a_damaged_recording_is_told(nano_artifact: Path) -> None:
    whole = COMMANDS.read_bytes()

    async def test(client: httpx2.AsyncClient) -> None:
        for kind in ("json", "verbose_json"):
            for sound, damaged in ((whole[: len(whole) // 2], True), (whole, False)):
                files = {"file": ("talk.flac", sound)}
                answer = (await client.post(TRANSCRIPTIONS, files=files, data={"response_format": kind})).json()
                assert "text" in answer
                assert ("warnings" in answer) is damaged
                if damaged:
                    (sentence,) = answer["warnings"]
                    assert sentence.startswith("talk.flac is damaged or cut off: ")

    with_client(nano_artifact, test)
