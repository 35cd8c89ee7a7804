"""Tests the load of `benchmarks.serving`: its client, its checks and figures, and a run with a small model."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

from benchmarks.serving.__main__ import main
from benchmarks.serving.clients import LOST, REFUSED, RIGHT, UNEXPECTED, WRONG, Clip, Event, Load, streamed_text
from benchmarks.serving.figures import load_figures, percentile, table
from benchmarks.serving.wire import Lost, form, parse, post

CLIP = Clip("one.wav", b"sound", 2.0, "en")
OK = "HTTP/1.1 200 OK\r\n"


def answer(body: str, status: str = "200 OK", head: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{head}\r\n{body}".encode()


def outcome(kind: str, respond: Callable[[bytes], bytes]) -> Event:
    """Returns what becomes of a request of a kind whose whole answer `respond` makes of its bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-L")), 0)
        writer.write(respond(head + await reader.readexactly(length)))
        writer.close()

    async def run() -> Event:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await Load(port, [CLIP], {"one.wav": "hello"}, faults=0, ours=True, seed=2).one(kind)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("reply", "wanted", "detail"),
    [
        (answer('{"text": "hello"}'), RIGHT, ""),
        (answer('{"text": "goodbye"}'), WRONG, "'goodbye' in place of 'hello'"),
        (answer('{"text": "hello"}')[:-3], LOST, "14 of 17 bytes"),
        (b"", LOST, "closed after 0 bytes"),
        (answer("{}"), LOST, "no text"),
        (answer("{}", "429 Too Many Requests", "retry-after: 2\r\n"), REFUSED, "2"),
        (answer("{}", "500 Internal Server Error"), UNEXPECTED, "500"),
    ],
)
def test_what_becomes_of_a_good_request(reply: bytes, wanted: str, detail: str):
    event = outcome("good", lambda request: reply)
    assert (event.outcome, event.audio) == (wanted, 2.0 if wanted == RIGHT else 0.0)
    assert detail in event.detail


def test_a_slow_reader_gets_its_text():
    def respond(request: bytes) -> bytes:
        assert b'filename="one.wav"' in request and b"sound" in request
        if b'name="stream"' not in request:
            return answer('{"text": "hello"}')
        body = stream("hel", "lo")
        return f"{OK}transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()

    event = outcome("slow", respond)
    assert (event.outcome, event.detail) == (RIGHT, "")
    assert event.seconds > 0.1


def test_garbage_must_be_refused_with_a_sentence():
    error = json.dumps({"error": {"message": "file: this is no sound, expected an audio file"}})
    assert outcome("garbage", lambda request: answer(error, "400 Bad Request")).outcome == RIGHT
    assert outcome("garbage", lambda request: answer(error)).outcome == UNEXPECTED
    assert outcome("garbage", lambda request: answer(error, "500 Oh")).outcome == UNEXPECTED


def stream(*deltas: str, text: str | None = None) -> str:
    events = [{"type": "transcript.text.delta", "delta": delta} for delta in deltas]
    events.append({"type": "transcript.text.done", "text": "".join(deltas) if text is None else text})
    return "".join(f"data: {part}\n\n" for part in [*map(json.dumps, events), "[DONE]"])


def test_a_stream_must_be_complete():
    whole = stream("hel", "lo")
    assert streamed_text(whole.encode()) == "hello"
    assert streamed_text(whole.removesuffix("data: [DONE]\n\n").encode()) is None
    assert streamed_text(stream("hel", "lo", text="hallo").encode()) is None


def test_an_answer_must_be_complete():
    assert parse(answer('{"a": 1}')).json() == {"a": 1}
    chunked = f"{OK}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".encode()
    assert parse(chunked).body == b"abcde"
    for part in (chunked[:-9], chunked[:-6], chunked[:20]):
        with pytest.raises(Lost):
            parse(part)


def test_a_request_has_the_length_that_it_says():
    head, _, body = post("/x", form({"a": "1"}, "f.wav", b"\x00\xff")).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_figures():
    assert percentile([], 0.5) is None
    assert [percentile(range(1, 101), share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    events = [Event("good", RIGHT, float(i), float(i), 2.0) for i in (1, 2, 3, 4)]
    events += [Event("slow", RIGHT, 9.0, 2.0, 3.0), Event("good", REFUSED, 0.1, 1.0), Event("good", WRONG, 1.0, 1.0)]
    figures = load_figures(events, clients=2, seconds=3)
    assert figures["requests"] == {"good": 6, "slow": 1} and figures["texts"] == 5
    assert (figures["requests_per_second"], figures["audio_seconds_per_second"]) == (4 / 3, 3.0)  # one was too late
    assert (figures["p50_seconds"], figures["p99_seconds"]) == (2.0, 4.0)
    assert (figures[REFUSED], figures[WRONG], figures[LOST]) == (1, 1, 0)
    figures |= {"memory_before_mb": 1, "memory_after_mb": 2, "busy_after_seconds": None, "left": []}
    assert table([{"name": "one", "loads": [figures]}]).row_count == 1


def test_a_small_server_under_load(nano_artifact: Path, tmp_path: Path):
    recording = ROOT / "examples" / "audio" / "commands.flac"
    shutil.copy(recording, tmp_path / "one.flac")
    (tmp_path / "manifest.tsv").write_text("file\tlanguage\tseconds\tkind\ttext\none.flac\ten\t8.0\tclean\twords\n")
    options = ["--speech", str(tmp_path), "--seconds", "12", "--clients", "3", "--faults", "0.5"]
    result = CliRunner().invoke(main, [str(nano_artifact), *options, "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    (server,) = json.loads((tmp_path / "figures.json").read_text())["servers"]
    (load,) = server["loads"]
    assert load["texts"] and {*load["requests"]} == {"good", "slow", "garbage", "cut", "killed"}
    assert (load["wrong"], load["lost"], load["unexpected"], load["left"], server["exit_status"]) == (0, 0, 0, [], 0)
