"""What one client can make a server keep has a bound; the parts that see to it, in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import uvicorn
from max_whisper.errors import Cancelled
from max_whisper.serve import connections, http, middleware, pool, uploads
from max_whisper.serve.app import create_app
from max_whisper.serve.errors import RequestError
from max_whisper.serve.handover import MOST_UNSENT
from max_whisper.serve.jobs import Job, gone, stopping
from max_whisper.serve.page import files
from max_whisper.serve.service import LARGEST_KEPT
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from support.in_process import admitted, forever, run, service_of, until
from support.server import PATIENCE


def test_a_thread_waits_for_a_client_that_does_not_read() -> None:
    given: list[int] = []
    ended: list[type] = []

    def work(give: Callable[[Any], None]) -> None:
        try:
            for number in range(10 * MOST_UNSENT):
                give(number)
                given.append(number)
        except Cancelled:
            ended.append(Cancelled)
            raise

    async def test() -> None:
        async with admitted() as request:
            stream = request.stream(work)
            assert await anext(stream) == 0
            await until(lambda: len(given) == MOST_UNSENT + 1)
            await asyncio.sleep(0.1)
            assert len(given) == MOST_UNSENT + 1
            await stream.aclose()
        assert ended == [Cancelled]
        async with admitted() as request:
            assert [item async for item in request.stream(work)] == [*range(10 * MOST_UNSENT)]

    run(test())


def test_a_stream_without_news_gives_a_sign_of_life() -> None:
    leave = threading.Event()

    async def test() -> None:
        async with admitted() as request:
            stream = request.stream(lambda give: leave.wait(PATIENCE) and give("end"), idle=0.01)
            assert [await anext(stream), await anext(stream)] == [None, None]
            leave.set()
            assert "end" in [item async for item in stream]

    run(test())


def test_who_hangs_up_in_a_stream_leaves_no_error_that_nobody_reads() -> None:
    said: list[dict[str, Any]] = []

    def work(give: Callable[[Any], None], job: Job) -> None:
        give("first")
        while not job.cancelled:
            time.sleep(0.01)
        raise Cancelled

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
        async with admitted() as request:
            stream = request.stream(lambda give: work(give, request.job))
            assert await anext(stream) == "first"
            await stream.aclose()

    run(test())
    assert said == []


def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SEND_SECONDS", 0.01)
    aborted: list[bool] = []

    async def never(message: Any) -> None:
        await forever()

    async def test() -> None:
        scope = {"extensions": {connections.ABORT: lambda: aborted.append(True)}}
        with pytest.raises(ClientDisconnect):
            await http._Patient(scope, never)({"type": "http.response.body"})

    run(test())
    assert aborted == [True]


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nhost:"])
def test_a_client_that_sends_no_request_is_given_up(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError

        config = uvicorn.Config(app, http=connections.protocol_class(10), log_config=None)
        config.load()
        state = uvicorn.server.ServerState()
        made = config.http_protocol_class
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: made(config=config, server_state=state, app_state={}), "127.0.0.1")
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        writer.write(sent)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        listener.close()
        await until(lambda: not state.connections)

    run(test())


def upload(*chunks: bytes) -> Any:
    """Returns a request with a body."""

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return SimpleNamespace(headers={}, stream=stream)


def test_a_trickle_is_no_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STALLED_SECONDS", 0.0)
    monkeypatch.setattr(uploads, "SLOWEST", 10**9)

    async def test() -> None:
        async with admitted() as work:
            monkeypatch.setattr(work, "until", lambda doing, seconds, gone_too: doing)
            with pytest.raises(RequestError) as refused:
                async for _ in uploads.bounded_body(upload(b"x", b"y"), work):
                    await asyncio.sleep(0.01)
        assert (refused.value.status, refused.value.code) == (408, "upload_stalled")

    run(test())


def test_all_uploads_together_have_a_bound() -> None:
    async def test() -> None:
        async with admitted(max_upload_mb=1) as work:
            service = work.service
            for _ in range(LARGEST_KEPT):
                work.uploaded.take(1_000_000)
            with pytest.raises(RequestError) as refused:
                work.uploaded.take(1)
            assert (refused.value.status, "retry-after" in refused.value.headers) == (503, True)
            assert service.uploads.left == 0
        assert service.uploads.left == LARGEST_KEPT * 1_000_000

    run(test())


def test_short_files_need_not_wait_until_long_ones_are_decoded() -> None:
    service = service_of()
    leave, began = threading.Event(), threading.Semaphore(0)

    def long() -> None:
        with service.decoding(Job("long"), True):
            began.release()
            leave.wait(PATIENCE)

    threads = [threading.Thread(target=long) for _ in range(service._decoders + 3)]
    for thread in threads:
        thread.start()
    for _ in range(service._decoders):
        assert began.acquire(timeout=PATIENCE)
    with service.decoding(Job("short"), False):
        assert not leave.is_set()
    leave.set()
    for thread in threads:
        thread.join()
    service.close()


def test_who_waits_for_a_model_can_be_cancelled(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path) -> None:
    leave = threading.Event()
    monkeypatch.setattr(pool, "load", lambda folder: leave.wait(PATIENCE) and SimpleNamespace(folder=folder))

    async def test() -> None:
        async with admitted({"nano": nano_artifact}) as work:
            entry = work.service.pool.default
            waiting = asyncio.ensure_future(work.model(entry))
            await until(lambda: entry.loading)
            work.job.cancel(stopping)
            with pytest.raises(RequestError) as told:
                await waiting
            assert told.value.code == "server_stopping"
            assert (entry.model, entry.users, leave.is_set()) == (None, 0, False)
            leave.set()
            await until(lambda: entry.model)

    run(test())


def test_who_hangs_up_while_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path) -> None:
    leave = threading.Event()
    monkeypatch.setattr(pool, "load", lambda folder: leave.wait(PATIENCE) and SimpleNamespace(folder=folder))

    async def test() -> None:
        async with admitted({"nano": nano_artifact}) as work:
            work.gone = lambda: asyncio.sleep(0.05)
            with pytest.raises(RequestError) as told:
                await work.model(work.service.pool.default)
            assert told.value.code == gone().code
            leave.set()
            await until(lambda: work.service.pool.default.model)

    run(test())


def app_with(folder: Path, layers: Callable[[Path], Any]) -> httpx2.AsyncClient:
    """Returns a client of an application in this process."""
    transport = httpx2.ASGITransport(create_app(service_of({"nano": folder}), layers))
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def test_the_layers_are_computed_once_for_many(nano_artifact: Path) -> None:
    calls: list[Path] = []

    def layers(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        time.sleep(0.05)
        return {"layers": 1}

    async def test() -> None:
        async with app_with(nano_artifact, layers) as client:
            answers = await asyncio.gather(*(client.get("/page-data/models/nano/layers") for _ in range(20)))
        assert [answer.json() for answer in answers] == [{"layers": 1}] * 20

    run(test())
    assert calls == [nano_artifact]


def test_any_failure_has_the_form_of_an_error(nano_artifact: Path) -> None:
    def layers(folder: Path) -> dict[str, Any]:
        raise ZeroDivisionError

    async def test() -> None:
        async with app_with(nano_artifact, layers) as client:
            answer = await client.get("/page-data/models/nano/layers")
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert "ZeroDivisionError" in answer.json()["error"]["message"]

    run(test())


def test_the_page_is_the_one_of_the_start(monkeypatch: pytest.MonkeyPatch, nano_artifact: Path, tmp_path: Path) -> None:
    """An upgrade changes the files under a server that runs."""
    (tmp_path / "index.html").write_text("old")
    monkeypatch.setattr(files, "FOLDER", tmp_path)

    async def test() -> None:
        async with app_with(nano_artifact, lambda folder: {}) as client:
            (tmp_path / "index.html").write_text("new")
            assert [(await client.get(path)).text for path in ("/", "/page/index.html")] == ["old", "old"]

    run(test())


def refusing(monkeypatch: pytest.MonkeyPatch) -> middleware.Draining:
    """Returns an application that refuses every request, and reads the rest of it for at most ten minutes."""
    monkeypatch.setattr(middleware, "DRAIN_SECONDS", 600.0)
    return middleware.Draining(PlainTextResponse("refused", 413))


def test_a_refused_client_that_stops_sending_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, sent = [{"type": "http.request", "body": b"x", "more_body": True}] * 3, list[str]()

    async def receive() -> Any:
        return parts.pop() if parts else await forever()

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def test() -> None:
        scope = {"type": "http", "headers": []}
        await asyncio.wait_for(refusing(monkeypatch)(scope, receive, send), PATIENCE)

    run(test())
    assert (parts, sent) == ([], ["http.response.start", "http.response.body"])


def test_a_request_with_two_lengths_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy may take the one, and the server the other: the rest would be a request of somebody else."""
    sent = list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    async def test() -> None:
        headers = [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        await refusing(monkeypatch)(scope, forever, send)

    run(test())
    assert sent[0]["status"] == 400
    assert (b"connection", b"close") in sent[0]["headers"]
