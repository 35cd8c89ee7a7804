"""Failures of the server are logged with the id that the client got, and nothing large is made in the event loop."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from max_whisper import render
from max_whisper.errors import ArtifactError, UserError
from max_whisper.serve import pool
from max_whisper.serve.app import create_app
from max_whisper.serve.openai import streaming, transcriptions
from max_whisper.serve.page import transcriptions as of_the_page
from max_whisper.serve.service import Service
from support.in_process import run, service_of, until
from support.server_fixtures import COMMANDS

TRANSCRIPTIONS = "/v1/audio/transcriptions"
LAYERS = "/page-data/models/nano/layers"


def fails(error: Exception) -> Callable[[Path], Any]:
    def function(folder: Path) -> Any:
        raise error

    return function


def client_of(service: Service, layers: Callable[[Path], Any] = lambda folder: {}) -> httpx2.AsyncClient:
    """Returns a client of an application in this process."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(service, layers)), base_url="http://127.0.0.1", timeout=60
    )


@pytest.mark.parametrize("error", [ArtifactError("it is damaged"), ZeroDivisionError("it is a bug")], ids=str)
def test_what_fails_without_a_request_that_computes(
    nano_artifact: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def test() -> None:
        async with client_of(service_of({"nano": nano_artifact}), fails(error)) as client:
            answer = await client.get(LAYERS)
        assert answer.status_code == 500
        (line,) = caplog.messages
        assert line == f"{LAYERS} {answer.headers['x-request-id']}: {type(error).__name__}: {error}"

    run(test())


@pytest.mark.parametrize("error", [UserError("it is gone"), ArtifactError("it is damaged")], ids=str)
def test_a_model_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, nano_artifact: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(pool, "load", fails(error))

    async def test() -> None:
        async with client_of(service_of({"nano": nano_artifact})) as client:
            answer = await client.post(TRANSCRIPTIONS, files={"file": COMMANDS.read_bytes()})
        told = answer.json()["error"]
        assert (answer.status_code, told["message"], told["param"]) == (500, str(error), "model")
        (line,) = caplog.messages
        assert line == f"{TRANSCRIPTIONS} {answer.headers['x-request-id']}: ArtifactError: {error}"

    run(test())


def test_a_model_that_is_loaded_while_it_is_freed(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path) -> None:
    """The metric says what is: a request may come before the memory of the last one is given back."""
    leave, freeing = threading.Event(), threading.Event()

    def free(models: list[Any]) -> None:
        freeing.set()
        leave.wait(60)

    monkeypatch.setattr(pool, "load", lambda folder: object())
    monkeypatch.setattr(pool, "_free", free)
    changes: list[bool] = []

    async def test() -> None:
        models = pool.ModelPool(
            {"nano": nano_artifact}, 0.01, lambda name, seconds: changes.append(seconds is not None)
        )
        models.preload()
        task = asyncio.ensure_future(models.free_what_rests())
        await until(freeing.is_set)
        async with models.lease(models.default):
            leave.set()
            await asyncio.sleep(0.2)
        task.cancel()
        assert changes == [True, False, True]

    run(test())


def test_answers_are_written_in_the_threads_of_requests(
    monkeypatch: pytest.MonkeyPatch, nano_artifact: Path, nano: Any
) -> None:
    """One of hours is megabytes, and would keep all others waiting."""
    writers: dict[str, set[str]] = {}

    def note(module: Any, name: str, kind: Callable[..., str]) -> None:
        function = getattr(module, name)

        def noting(*arguments: Any) -> Any:
            writers.setdefault(kind(*arguments), set()).add(threading.current_thread().name.partition("_")[0])
            return function(*arguments)

        monkeypatch.setattr(module, name, noting)

    note(transcriptions, "response", lambda *_: "response")
    note(streaming, "_event", lambda data: data["type"])
    note(of_the_page, "_line", lambda event: event["event"])

    async def test() -> None:
        service = service_of({"nano": nano_artifact})
        files = {"file": COMMANDS.read_bytes()}
        async with client_of(service) as client:
            plain = await client.post(TRANSCRIPTIONS, files=files, data={"response_format": "srt"})
            stream = await client.post(TRANSCRIPTIONS, files=files, data={"stream": "true"})
            page = await client.post("/page-data/transcriptions", files=files)
        assert plain.text == render(nano.transcribe(COMMANDS), "srt")
        assert plain.headers["content-type"] == "application/x-subrip; charset=utf-8"
        assert stream.text.endswith("data: [DONE]\n\n")
        assert json.loads(page.text.splitlines()[-1])["files"].keys() >= {"srt", "json"}
        service.close()

    run(test())
    for kind in ("response", "transcript.text.delta", "transcript.text.done", "window", "result"):
        assert writers[kind] == {"request"}, kind
