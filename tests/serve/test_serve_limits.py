"""A server has limits, and says which one a request has reached; whoever hangs up frees what it held."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from support.server import Server, server
from support.server_fixtures import COMMANDS

BOUNDARY = "boundary"


def form(content: bytes, **fields: str) -> bytes:
    """Returns a form with a file."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
    return b"".join(parts) + head + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def connection(running: Server) -> Iterator[http.client.HTTPConnection]:
    """Yields a connection, closed at the end of the block."""
    parts = urlsplit(running.url)
    assert parts.hostname
    opened = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        yield opened
    finally:
        opened.close()


def begin(opened: http.client.HTTPConnection, body: bytes, announced: int | None = None) -> None:
    """Sends a request with a body, of which the head may announce more than is sent."""
    opened.putrequest("POST", "/v1/audio/transcriptions")
    opened.putheader("content-type", f"multipart/form-data; boundary={BOUNDARY}")
    opened.putheader("content-length", str(len(body) if announced is None else announced))
    opened.endheaders()
    opened.send(body)


def answer(opened: http.client.HTTPConnection) -> tuple[int, dict[str, object], http.client.HTTPResponse]:
    """Returns the status, the error and the response of a request that was begun."""
    response = opened.getresponse()
    return response.status, json.loads(response.read())["error"], response


def wait_for(running: Server, requests: int) -> None:
    """Waits until some number of requests is worked on."""
    end = time.monotonic() + 20
    while running.get("/health").json()["requests"] != requests:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def small(model_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server that takes two requests of a megabyte and ten seconds."""
    options = ["--max-requests", "2", "--max-upload-mb", "1", "--max-audio-seconds", "10"]
    with server(tmp_path_factory.mktemp("small"), *model_options, *options) as running:
        yield running


@pytest.mark.parametrize("stream", ["false", "true"])
def test_hanging_up_frees_the_cpu(shared: Server, long_recording: Path, stream: str) -> None:
    before = shared.metric("max_whisper_cancelled_total", code="client_closed_request")
    tokens = shared.metric("max_whisper_tokens_total", model="multilingual")
    with connection(shared) as opened:
        begin(opened, form(long_recording.read_bytes(), stream=stream, model="multilingual", language="de"))
        end = time.monotonic() + 60
        while shared.metric("max_whisper_tokens_total", model="multilingual") == tokens:
            assert time.monotonic() < end
        busy = shared.cpu_seconds()
        time.sleep(1)
        assert shared.cpu_seconds() - busy > 0.5
    assert shared.wait_until_idle() < 3
    time.sleep(1)  # MAX's threads look for more work for half a second
    rest = shared.cpu_seconds()
    time.sleep(1)
    assert shared.cpu_seconds() - rest < 0.3
    assert shared.metric("max_whisper_cancelled_total", code="client_closed_request") == before + 1
    assert shared.left_files() == []


def test_hanging_up_in_the_middle_of_an_upload(shared: Server, long_recording: Path) -> None:
    body = form(long_recording.read_bytes())
    with connection(shared) as opened:
        begin(opened, body[: len(body) // 2], announced=len(body))
        wait_for(shared, 1)
    assert shared.wait_until_idle() < 3
    assert shared.left_files() == []


def test_hanging_up_while_a_file_is_decoded(shared: Server, long_recording: Path) -> None:
    with connection(shared) as opened:
        begin(opened, form(long_recording.read_bytes()))
        child = _child(shared)
    assert shared.wait_until_idle() < 3
    assert not Path(f"/proc/{child}").exists()
    assert shared.left_files() == []


def test_a_file_that_ends_the_process_that_decodes_it(shared: Server, long_recording: Path) -> None:
    with connection(shared) as opened:
        begin(opened, form(long_recording.read_bytes()))
        child = _child(shared)
        while "Max open files            0" not in Path(f"/proc/{child}/limits").read_text():  # it has begun by then
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        status, error, _ = answer(opened)
    assert status == 400
    assert "ended the process that decodes it (SIGKILL)" in str(error["message"])
    assert shared.wait_until_idle() < 3
    assert shared.left_files() == []


def _child(running: Server) -> int:
    """Returns the process that decodes a file for a server."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for task in Path(f"/proc/{running.process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                return int(child)
    raise AssertionError("no file is decoded")


def test_a_short_recording_need_not_wait_for_a_long_one(shared: Server, long_recording: Path) -> None:
    with connection(shared) as first, connection(shared) as second:
        for opened in (first, second):
            begin(opened, form(long_recording.read_bytes(), model="multilingual", language="de"))
        wait_for(shared, 2)
        alone = time.monotonic()
        assert shared.client().audio.transcriptions.create(file=COMMANDS, model="nano").text
        assert time.monotonic() - alone < 5
        assert shared.get("/health").json()["requests"] == 2
    shared.wait_until_idle()


def test_many_requests_at_once_are_not_mixed_up(shared: Server) -> None:
    """Three models, and each text is the one that the same request gets alone."""

    def text(number: int) -> str:
        name = ("nano", "multilingual", "english")[number % 3]
        options = {"language": "de"} if name == "multilingual" else {}
        return shared.client().audio.transcriptions.create(file=COMMANDS, model=name, **options).text

    alone = [text(number) for number in range(3)]
    with ThreadPoolExecutor(12) as threads:
        assert [*threads.map(text, range(24))] == alone * 8


def test_one_request_too_many(small: Server) -> None:
    body = form(COMMANDS.read_bytes())
    with connection(small) as first, connection(small) as second:
        for opened in (first, second):
            begin(opened, body[:1000], announced=len(body))  # they wait for the rest
        wait_for(small, 2)
        with pytest.raises(openai.RateLimitError) as error:
            small.client().audio.transcriptions.create(file=COMMANDS, model="nano")
        assert error.value.code == "rate_limit_exceeded"
        assert int(error.value.response.headers["retry-after"]) > 0
        assert small.metric("max_whisper_refused_total", code="rate_limit_exceeded") == 1
        first.send(body[1000:])
        assert first.getresponse().status == 200
        threading.Timer(1, second.close).start()
        patient = small.client(max_retries=5)
        assert patient.audio.transcriptions.create(file=COMMANDS, model="nano").text
    small.wait_until_idle()


def test_too_many_bytes(small: Server) -> None:
    for body in (form(bytes(1_100_000)), form(bytes(30_000_000))):
        with connection(small) as opened:
            begin(opened, body)
            status, error, _ = answer(opened)
        assert (status, error["code"]) == (413, "file_too_large")
        assert "larger than 1 MB" in str(error["message"])
    with pytest.raises(openai.APIStatusError) as refused:
        small.client().audio.transcriptions.create(file=bytes(20_000_000), model="nano")
    assert refused.value.status_code == 413
    assert small.left_files() == []


def test_too_many_bytes_without_a_length(small: Server) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield form(bytes(100_000)) if _ == 0 else bytes(100_000)

    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    response = small.post("/v1/audio/transcriptions", content=parts(), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "file_too_large")


def test_a_text_field_that_is_too_long(small: Server) -> None:
    files = {"file": COMMANDS.read_bytes()}
    response = small.post("/v1/audio/transcriptions", data={"prompt": "x" * 300_000}, files=files)
    assert response.status_code == 400
    assert "exceeded maximum size of 256KB" in response.json()["error"]["message"]


def test_too_many_seconds(small: Server, tmp_path: Path) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        small.client().audio.transcriptions.create(file=COMMANDS.with_name("countdown.flac"), model="nano")
    assert "countdown.flac is longer than 10 seconds: cut it into shorter files" in str(error.value)
    assert small.client().audio.transcriptions.create(file=COMMANDS, model="nano").text


def test_too_much_time(model_options: list[str], tmp_path: Path, long_recording: Path) -> None:
    with server(tmp_path, *model_options, "--max-request-seconds", "2") as running:
        for content, sent in ((long_recording.read_bytes(), 1.0), (COMMANDS.read_bytes(), 0.5)):
            body = form(content)
            with connection(running) as opened:
                began = time.monotonic()
                begin(opened, body[: int(sent * len(body))], announced=len(body))
                status, error, response = answer(opened)
            assert (status, error["code"]) == (504, "request_timeout")
            assert response.getheader("x-should-retry") == "false"
            assert 1.5 < time.monotonic() - began < 12
        assert running.client().audio.transcriptions.create(file=COMMANDS, model="nano").text
        assert running.left_files() == []


def test_models_are_freed_and_loaded_again(model_options: list[str], tmp_path: Path) -> None:
    with server(tmp_path, *model_options, "--unload-after", "0.3") as running:

        def loaded() -> set[str]:
            states = running.get("/health").json()["models"]
            return {name for name, state in states.items() if state == "loaded"}

        text = running.client().audio.transcriptions.create(file=COMMANDS, model="english").text
        assert "english" in loaded()
        assert "weights.safetensors" in Path(f"/proc/{running.process.pid}/maps").read_text()
        end = time.monotonic() + 10
        while loaded():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert running.metric("max_whisper_model_loaded", model="english") == 0
        assert "weights.safetensors" not in Path(f"/proc/{running.process.pid}/maps").read_text()
        assert running.client().audio.transcriptions.create(file=COMMANDS, model="english").text == text
        assert loaded() == {"english"}


def test_garbage_does_not_end_a_server(shared: Server) -> None:
    parts = urlsplit(shared.url)
    for data in (
        b"",
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/audio/transcriptions HTTP/1.1\r\n",
        b"\x16\x03\x01",
    ):
        with socket.create_connection((parts.hostname, parts.port)) as opened:
            opened.sendall(data)
    assert shared.get("/health").status_code == 200
