"""Answers say what is wrong with a recording, and which field of a request is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from max_whisper.serve.app import create_app
from support.in_process import run, service_of
from support.server_fixtures import COMMANDS

TRANSCRIPTIONS = "/v1/audio/transcriptions"
NO_SOUND = b"this is no sound, and nobody looks at it"


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


@pytest.mark.parametrize(
    ("data", "param", "sentence"),
    [
        ({"language": "klingon"}, "language", "language: unknown language 'klingon'"),
        ({"language": "de"}, "language", "language: this model does not know the language 'de'"),
        ({"languages[]": ["en", "xyz"]}, "languages", "languages: unknown language 'xyz'"),
        ({"prompt": "x" * 20_001}, "prompt", "prompt: expected at most 20000 characters"),
        ({"keywords[]": "one two " * 300}, "keywords", "keywords: expected fewer than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_that_is_wrong_is_named(nano_artifact: Path, data: dict[str, Any], param: str, sentence: str) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        answer = await client.post(TRANSCRIPTIONS, files={"file": NO_SOUND}, data=data)
        told = answer.json()["error"]
        assert (answer.status_code, told["param"]) == (400, param)
        assert told["message"].startswith(sentence)

    with_client(nano_artifact, test)


def test_a_model_that_cannot_translate_is_named(english_artifact: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        told = (await client.post("/v1/audio/translations", files={"file": NO_SOUND})).json()["error"]
        assert (told["param"], told["message"]) == (
            "model",
            "model: nano knows English alone, and cannot translate: choose another",
        )

    with_client(english_artifact, test)


def test_two_files_are_one_too_many(nano_artifact: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        answer = await client.post(TRANSCRIPTIONS, files=[("file", COMMANDS.read_bytes())] * 2)
        told = answer.json()["error"]
        assert (answer.status_code, told["param"]) == (400, "file")
        assert told["message"] == "file: expected one file in the form, got several"

    with_client(nano_artifact, test)


@pytest.mark.parametrize(
    ("method", "path", "key", "status", "sentence"),
    [
        ("GET", "/asr", "key", 405, "GET /asr: this address does not take this method, expected POST /asr"),
        ("POST", "/status", "key", 405, "POST /status: this address does not take this method, expected GET /status"),
        ("POST", "/asr", "wrong", 401, "the API key is missing or wrong"),
    ],
)
def test_errors_of_bazarrs_addresses_have_its_form(
    nano_artifact: Path, method: str, path: str, key: str, status: int, sentence: str
) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        answer = await client.request(method, path, headers={"authorization": f"Bearer {key}"})
        assert (answer.status_code, [*answer.json()]) == (status, ["detail"])
        assert answer.json()["detail"].startswith(sentence)

    with_client(nano_artifact, test, key="key")


def test_a_file_name_that_is_too_long_is_told(nano_artifact: Path) -> None:
    async def test(client: httpx2.AsyncClient) -> None:
        answer = await client.post(TRANSCRIPTIONS, files={"file": ("x" * 5000, NO_SOUND)})
        assert answer.status_code == 400
        assert "header" in answer.json()["error"]["message"].lower()
        assert len(answer.text) < 500

    with_client(nano_artifact, test)
