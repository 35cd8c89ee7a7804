"""A server has limits, and says which one a request has reached; whoever hangs up frees what it held."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from support.raw_requests import BOUNDARY, answer, begin, connection, form
from support.server import Server, server, until
from support.server_fixtures import COMMANDS


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
    heard = shared.metric("max_whisper_audio_seconds_total", model="multilingual")

    def cpu_of_a_second() -> float:
        began, busy = time.monotonic(), shared.cpu_seconds()
        time.sleep(1)
        return (shared.cpu_seconds() - busy) / (time.monotonic() - began)

    with connection(shared) as opened:
        begin(opened, form(long_recording.read_bytes(), stream=stream, model="multilingual", language="de"))
        until(lambda: shared.metric("max_whisper_tokens_total", model="multilingual") > tokens)
        busy = cpu_of_a_second()
    shared.wait_until_idle()
    until(lambda: cpu_of_a_second() < busy / 4)  # MAX's threads look for more work for half a second
    assert shared.metric("max_whisper_cancelled_total", code="client_closed_request") == before + 1
    assert (
        shared.metric("max_whisper_audio_seconds_total", model="multilingual") == heard
    )  # it did not go on to the end
    assert shared.left_files() == []


def test_those_who_hang_up_leave_nothing(shared: Server, long_recording: Path) -> None:
    """Also no file without a name: the next collection of garbage may be far away."""
    body = form(long_recording.read_bytes(), model="multilingual", language="de")
    for sent in (1.0, 1.0, 0.5):
        tokens = shared.metric("max_whisper_tokens_total", model="multilingual")
        with connection(shared) as opened:
            begin(opened, body[: int(sent * len(body))], announced=len(body))
            if sent == 1:
                until(lambda seen=tokens: shared.metric("max_whisper_tokens_total", model="multilingual") > seen)
            else:
                shared.wait_for(1)
            assert shared.left_files() != []
        shared.wait_until_idle()
        assert shared.left_files() == []


def test_hanging_up_in_the_middle_of_an_upload(shared: Server, long_recording: Path) -> None:
    path = "/v1/audio/transcriptions"
    before = shared.metric("max_whisper_requests_total", path=path, status="499")
    failed = shared.metric("max_whisper_requests_total", path=path, status="500")
    body = form(long_recording.read_bytes())
    with connection(shared) as opened:
        begin(opened, body[: len(body) // 2], announced=len(body))
        shared.wait_for(1)
    shared.wait_until_idle()
    assert shared.left_files() == []
    until(lambda: shared.metric("max_whisper_requests_total", path=path, status="499") == before + 1)
    assert shared.metric("max_whisper_requests_total", path=path, status="500") == failed


def test_hanging_up_while_a_file_is_decoded(shared: Server, long_recording: Path) -> None:
    with connection(shared) as opened:
        begin(opened, form(long_recording.read_bytes()))
        child = _child(shared)
    shared.wait_until_idle()
    assert not Path(f"/proc/{child}").exists()
    assert shared.left_files() == []


def test_a_file_that_ends_the_process_that_decodes_it(shared: Server, long_recording: Path) -> None:
    with connection(shared) as opened:
        begin(opened, form(long_recording.read_bytes()))
        child = _child(shared)
        limits = Path(f"/proc/{child}/limits")
        until(lambda: "Max open files            0" in limits.read_text())  # it has begun by then
        os.kill(child, signal.SIGKILL)
        status, error, _ = answer(opened)
    assert status == 400
    assert "ended the process that decodes it (SIGKILL)" in str(error["message"])
    shared.wait_until_idle()
    assert shared.left_files() == []


def _child(running: Server) -> int:
    """Returns the process that decodes a file for a server."""
    found: list[int] = []

    def look() -> bool:
        for task in Path(f"/proc/{running.process.pid}/task").iterdir():
            found.extend(map(int, (task / "children").read_text().split()))
        return bool(found)

    until(look)
    return found[0]


def test_a_short_recording_need_not_wait_for_a_long_one(shared: Server, long_recording: Path) -> None:
    with connection(shared) as first, connection(shared) as second:
        for opened in (first, second):
            begin(opened, form(long_recording.read_bytes(), model="multilingual", language="de"))
        shared.wait_for(2)
        assert shared.client().audio.transcriptions.create(file=COMMANDS, model="nano").text
        assert shared.get("/health").json()["requests"] == 2
    shared.wait_until_idle()


def test_many_requests_at_once_are_not_mixed_up(shared: Server, brief: Path) -> None:
    """Three models, and each text is the one that the same request gets alone."""

    def text(number: int) -> str:
        name = ("nano", "multilingual", "english")[number % 3]
        options = {"language": "de"} if name == "multilingual" else {}
        return shared.client().audio.transcriptions.create(file=brief, model=name, **options).text

    alone = [text(number) for number in range(3)]
    with ThreadPoolExecutor(12) as threads:
        assert [*threads.map(text, range(24))] == alone * 8


def test_one_request_too_many(small: Server) -> None:
    body = form(COMMANDS.read_bytes())
    with connection(small) as first, connection(small) as second:
        for opened in (first, second):
            begin(opened, body[:1000], announced=len(body))  # they wait for the rest
        small.wait_for(2)
        with pytest.raises(openai.RateLimitError) as error:
            small.client().audio.transcriptions.create(file=COMMANDS, model="nano")
        assert error.value.code == "rate_limit_exceeded"
        assert int(error.value.response.headers["retry-after"]) > 0
        assert small.metric("max_whisper_refused_total", code="rate_limit_exceeded") == 1
        first.send(body[1000:])
        assert first.getresponse().status == 200
        threading.Timer(1, second.close).start()
        patient = small.client(max_retries=20)
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


def test_text_fields_that_are_too_long(small: Server) -> None:
    files = {"file": COMMANDS.read_bytes()}
    for data in ({"prompt": "x" * 300_000}, {"prompt": "x" * 200_000, "keywords[]": "y" * 100_000}):
        response = small.post("/v1/audio/transcriptions", data=data, files=files)
        assert response.status_code == 400
        assert "its fields have more than 256 KB together" in response.json()["error"]["message"]


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
            assert time.monotonic() - began > 1.5
        assert running.client().audio.transcriptions.create(file=COMMANDS, model="nano").text
        assert running.left_files() == []


def test_models_are_freed_and_loaded_again(model_options: list[str], tmp_path: Path) -> None:
    with server(tmp_path, *model_options, "--unload-after", "5") as running:

        def loaded() -> set[str]:
            states = running.get("/health").json()["models"]
            return {name for name, state in states.items() if state == "loaded"}

        text = running.client().audio.transcriptions.create(file=COMMANDS, model="english").text
        assert "english" in loaded()
        assert "weights.safetensors" in Path(f"/proc/{running.process.pid}/maps").read_text()
        until(lambda: not loaded())
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


def test_too_many_connections(small: Server) -> None:
    parts = urlsplit(small.url)
    many = [socket.create_connection((parts.hostname, parts.port), timeout=60) for _ in range(2 + 128 + 3)]
    try:
        refused = b"".join(iter(lambda: many[-1].recv(1 << 16), b""))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
    finally:
        for opened in many:
            opened.close()

    def answers() -> bool:
        try:
            return small.get("/health").status_code == 200
        except httpx2.HTTPError:
            return False

    until(answers)


def test_an_upload_is_refused_before_it_is_sent(small: Server) -> None:
    """A client that waits to be told to go on gets the refusal at once, and is not told."""
    parts = urlsplit(small.url)
    head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9000000\r\n"
    head += b"content-type: multipart/form-data; boundary=B\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as opened:
        opened.sendall(head)
        assert opened.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_a_long_prompt_is_refused(small: Server) -> None:
    files = {"file": COMMANDS.read_bytes()}
    for name in ("prompt", "keywords[]"):
        response = small.post("/v1/audio/transcriptions", data={name: "one " * 6000, "model": "nano"}, files=files)
        assert response.status_code == 400
        sentence = f"{name.removesuffix('[]')}: expected at most 20000 characters, got 2"
        assert response.json()["error"]["message"].startswith(sentence)
