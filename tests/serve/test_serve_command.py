"""The command `max-whisper serve`: how it starts, what it refuses, how it stops."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from max_whisper.errors import MaxWhisperError
from max_whisper.serve.listening import listen
from max_whisper.serve.metrics import Metrics
from max_whisper.serve.options import ServeOptions
from max_whisper.serve.pool import ModelPool
from max_whisper.serve.run import serve
from max_whisper.serve.service import Service
from support.command import error, spawn
from support.in_process import most_waiting
from support.raw_requests import answer, begin, connection, form
from support.server import PATIENCE, server, until
from support.server_fixtures import COMMANDS


def test_it_listens_at_this_machine_alone(nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact) as running:
        assert running.lines == [f"serving nano at {running.url}/v1"]
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
            pass


def test_what_strangers_send_is_no_news(nano_artifact: Path, tmp_path: Path) -> None:
    """Whoever reaches the server could fill its log otherwise."""
    headers = {"content-type": "multipart/form-data; boundary=b"}
    with server(tmp_path, "--model", nano_artifact) as running:
        told = len(running.lines)
        for body in (b"abcd", b"--b\r\nno header\r\n\r\n", b"--b--\r\nrest"):
            answered = running.post("/v1/audio/transcriptions", content=body, headers=headers)
            assert answered.status_code == 400 and answered.json()["error"]["message"]
        with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=PATIENCE) as opened:
            opened.sendall(b"no HTTP\r\n\r\n")
            assert opened.recv(100).startswith(b"HTTP/1.1 400")
        assert running.stop() == 0
        assert running.lines[told:] == []


@pytest.mark.usefixtures("silero")
def test_it_warns_where_everybody_may_use_it(nano_artifact: Path, tmp_path: Path) -> None:
    """The address that it shows is one that a client can use."""
    with server(tmp_path, "--model", nano_artifact, "--host", "0.0.0.0", "--wyoming", "0.0.0.0:0") as running:
        assert "warning: everybody who can reach http://0.0.0.0:" in running.lines[0]
        assert running.url.startswith("http://127.0.0.1:")
        everywhere = r"\(it listens at all addresses\)"
        shown = rf"serving nano at {running.url}/v1 {everywhere}, by Wyoming at tcp://127\.0\.0\.1:\d+ {everywhere}"
        assert re.fullmatch(shown, running.lines[-1])
        assert running.get("/health").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_request_ends_before_the_server(nano_artifact: Path, tmp_path: Path, number: int) -> None:
    with server(tmp_path, "--model", nano_artifact, "--stop-seconds", "600") as running:
        expected = running.client().audio.transcriptions.create(file=COMMANDS, model="nano").text
        body = form(COMMANDS.read_bytes())
        with connection(running) as opened:
            begin(opened, body[:1000], announced=len(body))  # the server waits for the rest
            running.wait_for(1)
            running.process.send_signal(number)
            until(running.is_stopping)
            opened.send(body[1000:])
            assert json.loads(opened.getresponse().read())["text"] == expected
        assert running.process.wait(PATIENCE) == 0
        assert running.lines[1:] == []
        assert running.left_files() == []


def test_an_upload_that_stalls_is_told_of_the_stop(nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--stop-seconds", "0") as running, connection(running) as opened:
        begin(opened, form(COMMANDS.read_bytes())[:1000], announced=10_000)
        running.wait_for(1)
        running.process.send_signal(signal.SIGTERM)
        status, told, _ = answer(opened)
        assert (status, told["code"]) == (503, "server_stopping")
        assert running.process.wait(PATIENCE) == 0


def test_a_request_that_takes_too_long_is_told(nano_artifact: Path, long_recording: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--stop-seconds", "3") as running, ThreadPoolExecutor(1) as threads:
        client = running.client()
        last = threads.submit(client.audio.transcriptions.create, file=long_recording, model="nano")
        until(lambda: running.metric("max_whisper_tokens_total", model="nano"))
        running.process.send_signal(signal.SIGTERM)
        until(running.is_stopping)
        with pytest.raises(openai.InternalServerError) as late:
            client.audio.transcriptions.create(file=COMMANDS, model="nano")
        assert late.value.code == "server_stopping"
        with pytest.raises(openai.InternalServerError) as told:
            last.result()
        assert (told.value.status_code, told.value.code) == (503, "server_stopping")
        assert running.process.wait(PATIENCE) == 0
        assert running.left_files() == []


def test_a_second_signal_ends_it_at_once(nano_artifact: Path, tmp_path: Path) -> None:
    body = form(COMMANDS.read_bytes())
    with server(tmp_path, "--model", nano_artifact, "--stop-seconds", "600") as running, connection(running) as opened:
        begin(opened, body[:1000], announced=len(body))
        running.wait_for(1)
        running.process.send_signal(signal.SIGTERM)
        until(running.is_stopping)
        time.sleep(0.3)  # two signals within a tenth of a second count as one
        assert running.process.poll() is None
        assert running.stop(signal.SIGTERM, seconds=PATIENCE) == 128 + signal.SIGTERM
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            opened.getresponse()
        assert running.left_files() == []


def test_mistakes(nano_artifact: Path, tmp_path: Path) -> None:
    key = trustme.CA().issue_cert("localhost")
    private = serialization.load_pem_private_key(key.private_key_pem.bytes(), None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        private.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"secret"))
        + key.cert_chain_pems[0].bytes()
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        nano = ("--model", nano_artifact)
        for arguments, sentence in (
            (("--model", tmp_path / "none"), "there is no folder"),
            ((*nano, *nano), "another model is called nano"),
            (("--model", f"no name={nano_artifact}"), "expected a name of letters"),
            ((*nano, "--port", port), "cannot be listened at (Address already in use)"),
            ((*nano, "--host", "no.such.host.invalid"), "cannot be listened at"),
            ((*nano, "--max-requests", "0"), "--max-requests: expected 1 to 1000, got 0"),
            ((*nano, "--ssl-keyfile", "key.pem"), "give --ssl-certfile too"),
            ((*nano, "--port", "0", "--ssl-certfile", tmp_path / "none.pem"), "the certificate cannot be used"),
            ((*nano, "--port", "0", "--ssl-certfile", locked), "which needs no password"),
            ((*nano, "--api-key", ""), "--api-key: expected letters"),
            ((*nano, "--cors-origin", "https://example.org/"), "--cors-origin https://example.org/: expected * or an"),
            ((*nano, "--cors-origin", "example.org"), "--cors-origin example.org: expected * or an origin"),
            ((*nano, "--cors-origin", "https://Example.org"), "--cors-origin https://Example.org: expected * or an"),
            ((*nano, "--cors-origin", "https://example.org:443"), "and without the usual port"),
            ((*nano, "--cors-origin", "http://[::1]:80"), "and without the usual port"),
            ((*nano, "--allow-host", "example.org:80"), "--allow-host example.org:80: expected the name of a host"),
        ):
            said = error(spawn("serve", *arguments))
            assert sentence in said, said


def test_an_empty_key_is_no_key(nano_artifact: Path) -> None:
    """A variable that was to hold one, and does not, must not open the server to all."""
    said = error(spawn("serve", "--model", nano_artifact, env={**os.environ, "MAX_WHISPER_API_KEY": ""}))
    assert said.startswith("MAX_WHISPER_API_KEY: it is empty, expected a key")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_every_address(nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--host", "::") as running:
        port = running.url.rpartition(":")[2]
        assert httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200


def test_an_application_that_does_not_start(capfd: pytest.CaptureFixture[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no reason"})

    service = Service(ServeOptions(), ModelPool({}, None), Metrics())
    with listen("127.0.0.1", 0) as listener, pytest.raises(MaxWhisperError, match="could not start"):
        serve(app, service, listener)


def test_many_may_connect_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for part in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{part}.complete"})

    held: list[int] = []

    def started() -> None:
        held.append(most_waiting(listener))
        os.kill(os.getpid(), signal.SIGTERM)

    service = Service(ServeOptions(), ModelPool({}, None), Metrics())
    with listen("127.0.0.1", 0) as listener:
        expected = most_waiting(listener)
        serve(app, service, listener, started=started)
    assert held == [expected]


def test_a_detector_is_no_model(silero: Path) -> None:
    assert "does not transcribe" in error(spawn("serve", "--model", silero))


def test_without_the_extra(nano_artifact: Path, tmp_path: Path) -> None:
    """The packages that only the server needs are hidden from a process."""
    hiding = "import sys; sys.modules.update(dict.fromkeys(['starlette', 'uvicorn', 'prometheus_client'])); "
    (tmp_path / "sitecustomize.py").write_text(hiding)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    said = error(spawn("serve", "--model", nano_artifact, env=env))
    assert said.startswith("serve needs starlette, uvicorn and others: pip install 'max-whisper[serve]'")
    assert spawn("transcribe", COMMANDS, "--model", nano_artifact, env=env).code == 0
    code = "import max_whisper, sys; max_whisper.Model; max_whisper.open_audio"
    code += "; sys.exit(any(name in sys.modules for name in ('starlette', 'uvicorn', 'prometheus_client', 'anyio')))"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
