"""The command `max-whisper serve`: how it starts, what it refuses, how it stops."""

from __future__ import annotations

import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from support.command import error, spawn
from support.server import server
from support.server_fixtures import COMMANDS


def test_it_listens_at_this_machine_alone(nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact) as running:
        assert running.lines == [f"serving nano at {running.url}/v1"]
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
            pass


def test_it_warns_where_everybody_may_use_it(nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--host", "0.0.0.0") as running:
        assert "warning: everybody who can reach http://0.0.0.0:" in running.lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_request_ends_before_the_server(nano_artifact: Path, tmp_path: Path, number: int) -> None:
    with server(tmp_path, "--model", nano_artifact) as running, ThreadPoolExecutor(1) as threads:
        client = running.client()
        expected = client.audio.transcriptions.create(file=COMMANDS, model="nano").text
        answer = threads.submit(client.audio.transcriptions.create, file=COMMANDS, model="nano")
        while not running.get("/health").json()["requests"]:
            pass
        assert running.stop(number) == 0
        assert answer.result().text == expected
        assert running.lines[1:] == []
        assert running.left_files() == []


def test_a_request_that_takes_too_long_is_told(nano_artifact: Path, long_recording: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--stop-seconds", "1") as running, ThreadPoolExecutor(1) as threads:
        client = running.client()
        answer = threads.submit(client.audio.transcriptions.create, file=long_recording, model="nano")
        while not running.metric("max_whisper_tokens_total", model="nano"):
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(openai.InternalServerError) as late:
            client.audio.transcriptions.create(file=COMMANDS, model="nano")
        assert late.value.code == "server_stopping"
        with pytest.raises(openai.InternalServerError) as told:
            answer.result()
        assert (told.value.status_code, told.value.code) == (503, "server_stopping")
        assert running.process.wait(20) == 0
        assert running.left_files() == []


def test_a_second_signal_ends_it_at_once(nano_artifact: Path, long_recording: Path, tmp_path: Path) -> None:
    with (
        server(tmp_path, "--model", nano_artifact, "--stop-seconds", "60") as running,
        ThreadPoolExecutor(1) as threads,
    ):
        answer = threads.submit(running.client().audio.transcriptions.create, file=long_recording, model="nano")
        while not running.metric("max_whisper_tokens_total", model="nano"):
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert running.process.poll() is None
        assert running.stop(signal.SIGTERM, seconds=2) == 128 + signal.SIGTERM
        with pytest.raises(openai.APIConnectionError):
            answer.result()
        assert running.left_files() == []


def test_mistakes(nano_artifact: Path, tmp_path: Path) -> None:
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
            ((*nano, "--api-key", ""), "--api-key: expected letters"),
        ):
            said = error(spawn("serve", *arguments))
            assert sentence in said, said


def test_a_detector_is_no_model(silero: Path) -> None:
    assert "does not transcribe" in error(spawn("serve", "--model", silero))


def test_without_the_extra(nano_artifact: Path, tmp_path: Path) -> None:
    """The packages that only the server needs are hidden from a process."""
    hiding = "import sys; sys.modules.update(dict.fromkeys(['starlette', 'uvicorn', 'prometheus_client'])); "
    (tmp_path / "sitecustomize.py").write_text(hiding)
    import os

    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    said = error(spawn("serve", "--model", nano_artifact, env=env))
    assert said.startswith("serve needs starlette, uvicorn and others: pip install 'max-whisper[serve]'")
    assert spawn("transcribe", COMMANDS, "--model", nano_artifact, env=env).code == 0
    code = "import max_whisper, sys; max_whisper.Model; max_whisper.open_audio"
    code += "; sys.exit(any(name in sys.modules for name in ('starlette', 'uvicorn', 'prometheus_client', 'anyio')))"
    import subprocess

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
