"""Wyoming clients may send anything, forever, and vanish: each gets one sentence, and the server lives."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from max_whisper import Model, load_audio
from support.server import PATIENCE, Server, server, until
from support.server_fixtures import COMMANDS
from support.sounds import int16
from support.wyoming_client import address, answers_to, ask, events_of, with_client

pytestmark = pytest.mark.usefixtures("silero")
SOUND = load_audio(COMMANDS)
PCM = int16(SOUND).tobytes()
FORMAT = {"rate": 16000, "width": 2, "channels": 1}


def event(type: str, data: object = None, payload: bytes = b"", **fields: object) -> bytes:
    """Returns an event as it is sent. fields: those of the line, instead of the right ones."""
    line = {"type": type, "data": data or {}, **({"payload_length": len(payload)} if payload else {}), **fields}
    return json.dumps(line).encode() + b"\n" + payload


def error_of(answers: list[dict[str, object]]) -> tuple[str, str]:
    """Returns the text and the code of the error that ends an answer."""
    assert answers[-1]["type"] == "error", answers
    data = answers[-1]["data"]
    assert isinstance(data, dict)
    assert data["text"].isprintable()
    return data["text"], data.get("code", "")


@contextmanager
def opened(running: Server) -> Iterator[socket.socket]:
    """Yields a connection."""
    with socket.create_connection(address(running), timeout=60) as plain:
        yield plain


def rest_of(plain: socket.socket) -> list[dict[str, object]]:
    """Returns the events that come until the server closes the connection."""
    received = b""
    try:
        while more := plain.recv(1 << 16):
            received += more
    except ConnectionError:
        pass
    return events_of(received)


def is_alive(running: Server, nano: Model) -> None:
    """Checks that the next request is answered as ever, and that nothing is left of others."""
    assert with_client(running, lambda client: ask(client, PCM)) == nano.transcribe(SOUND).text.strip()
    running.wait_until_idle()
    assert running.left_files() == []
    assert running.process.poll() is None
    assert not [line for line in running.lines if "Traceback" in line or "Error" in line], running.lines


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
    "a number": b"1\n",
    "a list": b"[]\n",
    "no type": b"{}\n",
    "a type of no text": b'{"type": 1}\n',
    "a long type": event("x" * 1000),
    "a long line": b'{"type": "' + b"x" * 200_000 + b'"}\n',
    "deep": b'{"a": ' * 20_000 + b"\n",
    "a large number": b'{"type": "describe", "data_length": ' + b"9" * 400 + b"}\n",
    "an endless number": b'{"type": "describe", "data_length": ' + b"9" * 5000 + b"}\n",
    "negative": event("describe", payload_length=-1),
    "true": event("describe", payload_length=True),
    "a fraction": event("describe", data_length=0.5),
    "infinite": b'{"type": "describe", "payload_length": Infinity}\n',
    "much data": event("describe", data_length=10**9),
    "data that is none": event("transcribe", data_length=3) + b"abc",
    "data of another kind": b'{"type": "transcribe", "data": []}\n',
    "no format": event("audio-start"),
    "a rate of 0": event("audio-start", {**FORMAT, "rate": 0}),
    "a rate of text": event("audio-chunk", {**FORMAT, "rate": "16000"}, b"xx"),
    "too many channels": event("audio-start", {**FORMAT, "channels": 1000}),
    "wide samples": event("audio-start", {**FORMAT, "width": 8}),
    "a language of no text": event("transcribe", {"language": 5}),
    "half a character": b'{"type": "ping", "data": {"text": "\\ud800"}}\n',
    "names of no text": event("transcribe", {"transcript_names": [1]}),
    "names that are text": event("transcribe", {"transcript_names": "abc"}),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage(shared: Server, nano: Model, case: str) -> None:
    text, code = error_of(answers_to(shared, GARBAGE[case]))
    assert code == "bad_event"
    assert text.startswith("expected ")
    is_alive(shared, nano)


@pytest.mark.parametrize("at", [1, 20, 60, 5000, -30])
def test_a_connection_that_is_cut(shared: Server, nano: Model, at: int) -> None:
    whole = event("transcribe", {"language": "en"}) + event("audio-start", FORMAT) + event("audio-chunk", FORMAT, PCM)
    assert answers_to(shared, whole[:at]) == []
    is_alive(shared, nano)


@pytest.fixture(scope="module")
def small(model_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Returns a server that takes two requests of three seconds, for at most two."""
    options = ["--max-requests", "2", "--max-audio-seconds", "3", "--max-request-seconds", "2", "--wyoming", "0"]
    with server(tmp_path_factory.mktemp("small"), *model_options, *options) as running:
        yield running


@pytest.mark.parametrize("length", [4 * 32_000, 10**15])
def test_a_chunk_that_is_too_long(small: Server, length: int) -> None:
    """It is refused for what it announces, before it is there."""
    text, code = error_of(answers_to(small, event("audio-chunk", FORMAT, payload_length=length), close=False))
    assert (code, "longer than 3 seconds" in text) == ("audio_too_long", True)


def test_sound_without_an_end(small: Server) -> None:
    with opened(small) as plain:
        for _ in range(4):
            plain.sendall(event("audio-chunk", FORMAT, bytes(32_000)))
        assert error_of(rest_of(plain))[1] == "audio_too_long"
    small.wait_until_idle()
    assert small.left_files() == []


def test_a_microphone_that_is_open_for_too_long(small: Server) -> None:
    with opened(small) as plain:
        plain.sendall(event("audio-start", FORMAT))
        text, code = error_of(rest_of(plain))
    assert (code, "took longer" in text) == ("request_timeout", True)


def test_one_request_too_many(small: Server) -> None:
    with opened(small) as first, opened(small) as second:
        for plain in (first, second):
            plain.sendall(event("audio-start", FORMAT))
        small.wait_for(2)
        text, code = error_of(answers_to(small, event("audio-start", FORMAT), close=False))
        assert code == "rate_limit_exceeded"
        assert "2 requests already" in text
    small.wait_until_idle()


def test_too_many_connections(small: Server) -> None:
    many = [socket.create_connection(address(small), timeout=20) for _ in range(2 + 64 + 5)]
    try:
        refused = [error_of(rest_of(plain))[1] for plain in many[-5:]]
        assert refused == ["too_many_connections"] * 5
    finally:
        for plain in many:
            plain.close()
    until(lambda: answers_to(small, event("ping"))[-1]["type"] == "pong")


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (event("audio-chunk", FORMAT, bytes(64)) + event("audio-chunk", {**FORMAT, "rate": 8000}, b"xx"), "bad_event"),
        (event("voice-started", payload_length=1 << 40), "event_too_large"),
        (event("transcribe", {"name": "other"}) + event("audio-start", FORMAT), "model_not_found"),
        (event("transcribe", {"language": "xx"}) + event("audio-chunk", FORMAT, PCM), ""),
        (event("audio-chunk", FORMAT, PCM) + event("transcribe", {"language": "xx"}) + event("audio-stop"), ""),
        (
            event("transcribe") + event("audio-chunk", FORMAT, PCM) + event("audio-chunk", {**FORMAT, "rate": 8000}),
            "bad_event",
        ),
        (
            event("transcribe") + event("audio-chunk", FORMAT, PCM) + event("transcribe", {"name": "multilingual"}),
            "bad_event",
        ),
        (event("transcribe") + event("audio-chunk", FORMAT, PCM) + b"x\n", "bad_event"),
    ],
    ids=[
        "another format",
        "much of what nobody needs",
        "another model",
        "another language",
        "another language, late",
        "another format of what is heard",
        "another model for what is heard",
        "garbage behind what is heard",
    ],
)
def test_what_cannot_be_done(shared: Server, nano: Model, events: bytes, code: str) -> None:
    """The connection is closed after the error: Home Assistant waits for a transcript or the end, and nothing else."""
    assert error_of(answers_to(shared, events, close=False))[1] == code
    is_alive(shared, nano)


def test_hanging_up_frees_the_cpu(shared: Server, long_recording: Path) -> None:
    before = shared.metric("max_whisper_cancelled_total", code="client_closed_request")
    tokens = shared.metric("max_whisper_tokens_total", model="nano")
    with opened(shared) as plain:
        sound = load_audio(long_recording)
        plain.sendall(event("audio-chunk", FORMAT, int16(sound).tobytes()) + event("audio-stop"))
        until(lambda: shared.metric("max_whisper_tokens_total", model="nano") > tokens)
    shared.wait_until_idle()
    assert shared.metric("max_whisper_cancelled_total", code="client_closed_request") == before + 1
    assert shared.left_files() == []


def test_a_client_that_does_not_read(shared: Server, nano: Model) -> None:
    """It is not read any more, either, so that what waits for it has a bound; others are answered."""
    with opened(shared) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100 << 20:
                sent += plain.send(event("describe") * 1000)
        is_alive(shared, nano)


def test_a_server_that_stops(nano_artifact: Path, tmp_path: Path, nano: Model) -> None:
    """Idle connections are closed, an open microphone is told, and the port is closed."""
    options = ("--model", nano_artifact, "--wyoming", "0", "--stop-seconds", "1")
    with server(tmp_path, *options) as running:
        is_alive(running, nano)
        with opened(running) as idle, opened(running) as speaking:
            speaking.sendall(event("audio-chunk", FORMAT, PCM))
            running.wait_for(1)
            running.process.send_signal(signal.SIGTERM)
            assert error_of(rest_of(speaking))[1] == "server_stopping"
            assert rest_of(idle) == []
            assert running.process.wait(PATIENCE) == 0
        with pytest.raises(OSError):
            socket.create_connection(address(running), timeout=5)
        assert running.lines[1:] == []
        assert running.left_files() == []


def test_a_request_that_ends_while_the_server_stops(nano_artifact: Path, tmp_path: Path, nano: Model) -> None:
    with server(tmp_path, "--model", nano_artifact, "--wyoming", "0") as running, opened(running) as plain:
        plain.sendall(event("audio-chunk", FORMAT, PCM))
        running.wait_for(1)
        running.process.send_signal(signal.SIGTERM)
        until(running.is_stopping)
        assert error_of(answers_to(running, event("audio-start", FORMAT)))[1] == "server_stopping"
        plain.sendall(event("audio-stop"))
        transcript = next(one for one in rest_of(plain) if one["type"] == "transcript")
        assert transcript["data"]["text"] == nano.transcribe(SOUND).text.strip()
        assert running.process.wait(PATIENCE) == 0


def test_it_warns_that_no_key_protects_it(nano_artifact: Path, tmp_path: Path) -> None:
    options = ("--model", nano_artifact, "--wyoming", "0.0.0.0:0", "--api-key", "secret")
    with server(tmp_path, *options) as running:
        assert [line for line in running.lines if line.startswith("warning: everybody who can reach tcp://0.0.0.0:")]


def test_without_its_package(nano_artifact: Path, tmp_path: Path) -> None:
    """Only those who ask for Wyoming need its package."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['wyoming'] = None\n")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with server(tmp_path, "--model", nano_artifact, env=env) as running:
        assert running.get("/status").status_code == 200
    with (
        pytest.raises(AssertionError, match=r"--wyoming needs the package wyoming: pip install 'max-whisper\[serve\]'"),
        server(tmp_path, "--model", nano_artifact, "--wyoming", "0", env=env),
    ):
        pass
