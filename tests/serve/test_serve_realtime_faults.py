"""What strangers and broken clients do at /v1/realtime, and what a server answers that is full or stops."""

from __future__ import annotations

import base64
import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from support.realtime import COMPLETED, INTENT, Raw, pcm24, raw, sound_input
from support.server import Server, server, until
from support.server_fixtures import COMMANDS
from websockets.exceptions import ConnectionClosed, InvalidStatus

pytestmark = pytest.mark.usefixtures("silero")
INPUT = "session.audio.input"
DEEP = "[" * 100_000
APPEND = "input_audio_buffer.append"


@pytest.fixture(scope="module")
def sound() -> bytes:
    return pcm24(COMMANDS)


def close_code(connection: Raw) -> int:
    """Returns the code with which the server closes a connection."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            connection.next()
    assert closed.value.rcvd
    return closed.value.rcvd.code


def still_works(connection: Raw, sound: bytes) -> None:
    connection.send({"type": "input_audio_buffer.clear"})
    connection.until("input_audio_buffer.cleared")
    connection.append(sound[:130_000])
    assert connection.until(COMPLETED)["transcript"]


@pytest.mark.parametrize(
    ("session", "param", "code"),
    [
        (None, "session", "invalid_value"),
        ([], "session", "invalid_value"),
        ({"type": "realtime"}, "session.type", "invalid_value"),
        ({"type": 3}, "session.type", "invalid_value"),
        ({"model": "nano"}, "session.model", "unknown_parameter"),
        ({"audio": {"output": {}}}, "session.audio.output", "unknown_parameter"),
        ({"audio": {"input": []}}, INPUT, "invalid_value"),
        ({"include": ["item.input_audio_transcription.logprobs"]}, "session.include", "unsupported"),
        ({"include": ["words"]}, "session.include", "invalid_value"),
        ({"include": "words"}, "session.include", "invalid_value"),
        (sound_input(turn={}), f"{INPUT}.turn", "unknown_parameter"),
        (sound_input(noise_reduction={"type": "near_field"}), f"{INPUT}.noise_reduction", "unsupported"),
        (sound_input(format={"type": "audio/opus"}), f"{INPUT}.format.type", "invalid_value"),
        (sound_input(format={"type": "audio/pcm", "rate": 7999}), f"{INPUT}.format.rate", "invalid_value"),
        (sound_input(format={"type": "audio/pcmu", "rate": 16000}), f"{INPUT}.format.rate", "invalid_value"),
        (sound_input(format={"type": "audio/pcm", "rate": True}), f"{INPUT}.format.rate", "invalid_value"),
        (sound_input(format={"type": "audio/pcm", "rate": 24000.5}), f"{INPUT}.format.rate", "invalid_value"),
        (sound_input(turn_detection={"type": "semantic_vad"}), f"{INPUT}.turn_detection.type", "unsupported"),
        (sound_input(turn_detection={"type": "x"}), f"{INPUT}.turn_detection.type", "invalid_value"),
        (sound_input(turn_detection={"threshold": float("nan")}), f"{INPUT}.turn_detection.threshold", "invalid_value"),
        (sound_input(turn_detection={"eagerness": "low"}), f"{INPUT}.turn_detection.eagerness", "unknown_parameter"),
        (
            sound_input(turn_detection={"silence_duration_ms": 10**400}),
            f"{INPUT}.turn_detection.silence_duration_ms",
            "invalid_value",
        ),
        (
            sound_input(turn_detection={"type": "server_vad", "create_response": True}),
            f"{INPUT}.turn_detection.create_response",
            "unsupported",
        ),
        (sound_input(transcription=None), f"{INPUT}.transcription", "unsupported"),
        (sound_input(transcription={"model": "gone"}), "model", "model_not_found"),
        (sound_input(transcription={"model": 3}), f"{INPUT}.transcription.model", "invalid_value"),
        (sound_input(transcription={"language": "klingon"}), f"{INPUT}.transcription.language", "invalid_value"),
        (sound_input(transcription={"delay": "low"}), f"{INPUT}.transcription.delay", "unsupported"),
        (sound_input(transcription={"prompt": "x" * 20_001}), f"{INPUT}.transcription.prompt", "invalid_value"),
        (sound_input(transcription={"prompt": "\ud800"}), f"{INPUT}.transcription.prompt", "invalid_value"),
        (sound_input(transcription={"keywords": [1]}), f"{INPUT}.transcription.keywords", "invalid_value"),
    ],
)
def test_wrong_updates(shared: Server, session: Any, param: str, code: str) -> None:
    with raw(shared) as connection:
        connection.update(session, event_id="mine")
        error = connection.error()
        assert (error["param"], error["code"], error["event_id"]) == (param, code, "mine")
        assert error["type"] == "invalid_request_error"
        assert "\n" not in error["message"]
        connection.update(sound_input(turn_detection=None))
        assert connection.next()["type"] == "session.updated"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "invalid_json"),
        ("no json", "invalid_json"),
        (DEEP, "invalid_json"),
        ("[]", "invalid_value"),
        ("{}", "invalid_value"),
        ({"type": 3}, "invalid_value"),
        ({"type": "response.create"}, "unknown_event"),
        ({"type": "transcription_session.update", "session": {}}, "unknown_event"),
        ({"type": "\ud800" * 10_000}, "unknown_event"),
        ({"type": APPEND}, "invalid_value"),
        ({"type": APPEND, "audio": None}, "invalid_value"),
        ({"type": APPEND, "audio": "?"}, "invalid_value"),
        ({"type": APPEND, "audio": "AAA"}, "invalid_value"),
        ({"type": APPEND, "audio": "\ud800"}, "invalid_value"),
        ({"type": APPEND, "audio": "AAAA", "rate": 3}, "unknown_parameter"),
        ({"type": "input_audio_buffer.commit", "final": True}, "unknown_parameter"),
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
        (b"\0\1", "no_text"),
    ],
)
def test_wrong_messages(shared: Server, sound: bytes, message: object, code: str) -> None:
    with raw(shared) as connection:
        connection.send(message)
        error = connection.error()
        assert error["code"] == code
        assert len(error["message"]) < 1000
        connection.append(b"")
        still_works(connection, sound)


def test_what_is_no_text(shared: Server) -> None:
    with raw(shared) as connection:
        connection.socket.send(b"\xff\xfe", text=True)
        assert close_code(connection) == 1007
    shared.wait_until_idle()
    assert not any("Traceback" in line for line in shared.lines)


def test_a_message_that_is_too_large(shared: Server) -> None:
    """It closes the connection, with 1009 where the client gets to read that."""
    with raw(shared) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            connection.send("x" * (21 << 20))
            connection.next()
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    shared.wait_until_idle()


def test_the_most_sound_of_a_message(shared: Server) -> None:
    with raw(shared) as connection:
        connection.append(bytes(15 << 20))
        connection.send({"type": "input_audio_buffer.clear"})
        assert connection.next()["type"] == "input_audio_buffer.cleared"


def test_what_cannot_be_changed_any_more(shared: Server, sound: bytes) -> None:
    with raw(shared) as connection:
        connection.append(sound[:20_000])
        connection.update(sound_input(format={"type": "audio/pcmu"}), event_id="late")
        error = connection.error()
        assert (error["code"], error["event_id"]) == ("session_started", "late")
        connection.update({"include": ["max_whisper.hypothesis"]})
        assert connection.next()["session"]["include"]
        connection.update({"include": []})
        assert connection.next()["session"]["audio"]["input"]["format"]["rate"] == 24000
        connection.send({"type": "input_audio_buffer.clear"})
        connection.until("input_audio_buffer.cleared")
        connection.update(sound_input(turn_detection=None))
        assert connection.next()["type"] == "session.updated"


def test_other_intents(shared: Server) -> None:
    with raw(shared, "?intent=translation", created=False) as connection:
        assert connection.error()["param"] == "intent"
        assert close_code(connection) == 1008


def test_a_model_that_is_not_there(shared: Server, sound: bytes) -> None:
    with raw(shared, "?model=gone") as connection:
        connection.send({"type": APPEND, "audio": base64.b64encode(sound[:20_000]).decode(), "event_id": "first"})
        error = connection.error()
        assert (error["code"], error["event_id"]) == ("model_not_found", "first")
        connection.append(sound[:20_000])
        connection.update(sound_input(transcription={"model": "nano"}))
        assert connection.error()["message"].endswith("send input_audio_buffer.clear before")
        connection.send({"type": "input_audio_buffer.commit", "event_id": "end"})
        error = connection.error()
        assert "earlier error" in error["message"]
        assert error["event_id"] == "end"
        connection.send({"type": "input_audio_buffer.clear"})
        connection.until("input_audio_buffer.cleared")
        connection.update(sound_input(transcription={"model": "nano"}))
        assert connection.next()["type"] == "session.updated"
        still_works(connection, sound)


def test_a_client_that_vanishes(shared: Server, sound: bytes) -> None:
    with raw(shared) as connection:
        connection.append(sound * 20)
        connection.until(COMPLETED)
        connection.socket.socket.shutdown(socket.SHUT_RDWR)
        shared.wait_until_idle()
    assert shared.metric("max_whisper_streams_running") == 0


def test_a_client_that_sends_much_more_than_is_heard(shared: Server, sound: bytes) -> None:
    """Nothing is lost. The tests of the inbox show that it is held up: sockets keep what the system lets them."""
    with raw(shared) as connection:
        connection.update(sound_input(turn_detection=None))
        connection.until("session.updated")
        for _ in range(400):
            connection.append(bytes(48_000))
        connection.send({"type": "input_audio_buffer.commit"})
        assert connection.until(COMPLETED)["usage"]["seconds"] == pytest.approx(400, abs=1)


def test_other_addresses(shared: Server) -> None:
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus) as refused:
        connect(shared.url.replace("http", "ws", 1) + "/v1/other", proxy=None)
    assert refused.value.response.status_code in (403, 404)
    assert shared.get("/v1/realtime").status_code == 404


def test_pages_of_others_are_refused(shared: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, raw(shared, origin="https://example.org"):
        pass
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["error"]["code"] == "origin_not_allowed"
    with raw(shared, origin=shared.url) as connection:
        connection.send({"type": "input_audio_buffer.clear"})
        connection.until("input_audio_buffer.cleared")


def test_keys(nano_artifact: Path, tmp_path: Path) -> None:
    key = "a/secret"
    with server(tmp_path, "--model", nano_artifact, "--api-key", key) as running:
        with running.client(api_key=key).realtime.connect(extra_query=INTENT) as connection:
            assert connection.recv().type == "session.created"
        for given in (["realtime", f"openai-insecure-api-key.{key.replace('/', '%2F')}"], None):
            try:
                with raw(running, subprotocols=given) as connection:
                    assert given
                    assert connection.socket.subprotocol == "realtime"
            except InvalidStatus as refused:
                assert given is None
                assert refused.response.status_code == 401
                assert json.loads(refused.response.body)["error"]["code"] == "invalid_api_key"
        for wrong in (["realtime", "openai-insecure-api-key.a"], ["realtime"]):
            with pytest.raises(InvalidStatus), raw(running, subprotocols=wrong):
                pass
        assert (
            running.get(
                "/v1/models", headers={"sec-websocket-protocol": "openai-insecure-api-key.a%2Fsecret"}
            ).status_code
            == 401
        )


def test_more_streams_than_places(nano_artifact: Path, tmp_path: Path, sound: bytes) -> None:
    with server(tmp_path, "--model", nano_artifact, "--max-streams", "1") as running, raw(running) as first:
        with raw(running, created=False) as second:
            error = second.error()
            assert (error["code"], error["type"]) == ("too_many_streams", "rate_limit_error")
            assert close_code(second) == 1013
        with running.client().realtime.connect(extra_query=INTENT) as connection:
            assert connection.recv().error.code == "too_many_streams"
        assert running.metric("max_whisper_refused_total", code="too_many_streams") == 2
        first.append(sound)
        assert first.until(COMPLETED)["transcript"]
        first.socket.close()
        until(lambda: running.metric("max_whisper_streams_running") == 0)
        with raw(running) as third:
            third.send({"type": "input_audio_buffer.clear"})
            third.until("input_audio_buffer.cleared")


def test_a_server_that_stops(nano_artifact: Path, tmp_path: Path, sound: bytes) -> None:
    """What was said is transcribed, and the client is told."""
    with server(tmp_path, "--model", nano_artifact) as running, raw(running) as connection:
        connection.append(sound[:60_000])
        connection.until("input_audio_buffer.speech_started")
        running.process.send_signal(signal.SIGTERM)
        assert connection.until(COMPLETED)["transcript"] == "hello"
        assert connection.error()["code"] == "server_stopping"
        assert close_code(connection) == 1001
        assert running.process.wait(30) == 0


def test_a_client_that_does_not_read(nano_artifact: Path, tmp_path: Path, sound: bytes) -> None:
    """It loses its place, though it still sends."""
    with server(tmp_path, "--model", nano_artifact) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            key = base64.b64encode(bytes(16)).decode()
            opened.sendall(
                f"GET /v1/realtime HTTP/1.1\r\nhost: {host}:{port}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
            )
            opened.settimeout(90)
            wrong = b"[" * 100  # each is answered by an error
            frame = bytes([0x81, 0x80 | len(wrong), 0, 0, 0, 0]) + wrong
            began = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - began < 90:
                    opened.sendall(frame * 100)
        running.wait_until_idle()


def test_a_session_that_lasts_too_long(nano_artifact: Path, tmp_path: Path) -> None:
    with (
        server(tmp_path, "--model", nano_artifact, "--max-request-seconds", "1") as running,
        raw(running) as connection,
    ):
        assert connection.error()["code"] == "session_expired"
        assert close_code(connection) == 1008


def test_what_is_said_when_the_time_is_over(nano_artifact: Path, tmp_path: Path, sound: bytes) -> None:
    """It is transcribed before the session ends."""
    with (
        server(tmp_path, "--model", nano_artifact, "--max-request-seconds", "8") as running,
        raw(running) as connection,
    ):
        connection.append(sound[:60_000])
        connection.until("input_audio_buffer.speech_started")
        assert connection.until(COMPLETED)["transcript"] == "hello"
        assert connection.error()["code"] == "session_expired"
        assert close_code(connection) == 1008


def test_the_head_of_a_request_is_not_waited_for(nano_artifact: Path, tmp_path: Path) -> None:
    """A session outlives the time that connections by HTTP have to send their next request."""
    from max_whisper.serve.connections import HEAD_SECONDS

    with server(tmp_path, "--model", nano_artifact) as running, raw(running) as connection:
        time.sleep(HEAD_SECONDS + 2)
        connection.send({"type": "input_audio_buffer.clear"})
        assert connection.next()["type"] == "input_audio_buffer.cleared"


def test_its_own_errors_are_the_clients(client: openai.OpenAI) -> None:
    """OpenAI's client reads the errors."""
    with client.realtime.connect(extra_query=INTENT) as connection:
        connection.recv()
        connection.session.update(session={"type": "realtime"}, event_id="mine")
        event = connection.recv()
        assert event.type == "error"
        assert event.error.event_id == "mine"
        assert event.error.param == "session.type"
