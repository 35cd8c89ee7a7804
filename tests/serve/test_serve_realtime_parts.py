"""The parts of a session by themselves: where a stream fails, and how texts become deltas."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from max_whisper.errors import Cancelled
from max_whisper.runtime.streaming.events import StreamEvent
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import Job, gone
from max_whisper.serve.live.fed_stream import FedStream
from max_whisper.serve.live.formats import SoundFormat
from max_whisper.serve.live.inbox import MESSAGE_BYTES, MOST_BYTES, Inbox
from max_whisper.serve.metrics import Metrics
from max_whisper.serve.realtime.config import Config
from max_whisper.serve.realtime.items import Items
from max_whisper.serve.realtime.session import Session

COMPLETED = "conversation.item.input_audio_transcription.completed"


def told(*found: StreamEvent, config: Config | None = None) -> list[dict[str, Any]]:
    """Returns the events that tell what a stream has found."""
    events: list[dict[str, Any]] = []
    items = Items(config or Config("nano"), events.append)
    items.tell(found)
    return events


def deltas(events: list[dict[str, Any]]) -> list[str]:
    return [event["delta"] for event in events if event["type"].endswith("delta")]


def final(text: str) -> StreamEvent:
    return StreamEvent("final", 0, 1.0, 2.0, text, language="en")


def confirmed(text: str) -> StreamEvent:
    return StreamEvent("confirmed", 0, 1.0, 1.5, text)


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        ([" Hello", " you"], " Hello you.", ["Hello", " you", "."]),
        ([" Hello"], " Hello ", ["Hello"]),
        ([], " Hello you.", ["Hello you."]),
        ([], "", []),
        ([" Hello", " ewe"], " Hello you.", ["Hello", " ewe"]),  # revised: the transcript counts
        (["你", "好"], "你好。", ["你", "好", "。"]),
    ],
)
def test_deltas(words: list[str], text: str, expected: list[str]) -> None:
    events = told(*map(confirmed, words), final(text))
    assert deltas(events) == expected
    assert events[-1]["type"] == COMPLETED
    assert events[-1]["transcript"] == text.strip()


def test_an_item_of_several_phrases() -> None:
    config = Config("nano", turns=None)
    events: list[dict[str, Any]] = []
    items = Items(config, events.append)
    items.tell([confirmed(" one"), final(" one."), confirmed(" two"), final(" too."), confirmed(" three")])
    items.tell([final(" three.")])
    items.commit()
    assert deltas(events) == ["one", ". two", " three"]
    assert events[-1]["transcript"] == "one. too. three."
    assert events[-1]["usage"] == {"type": "duration", "seconds": 3.0}


class Broken:
    """A stream that fails."""

    def feed(self, chunk: object) -> list[StreamEvent]:
        raise RuntimeError("a bug")

    commit = cancel = feed


class Speaking:
    """A stream that hears one phrase, which a commit ends."""

    def feed(self, chunk: object) -> list[StreamEvent]:
        return [StreamEvent("speech_started", 0, 0.5, 0.5)]

    def commit(self) -> list[StreamEvent]:
        return [final(" hello")]


def session_with(
    stream: Any, *messages: object, end: type[Exception] = Cancelled
) -> tuple[list[dict[str, Any]], Session]:
    """Returns what a session tells that has taken some messages, with a stream and without a model.

    end: what it raises at its end.
    """

    async def run() -> tuple[list[dict[str, Any]], Session]:
        job, events = Job("/v1/realtime"), []
        service = SimpleNamespace(metrics=Metrics(), stopping=False)
        work: Any = SimpleNamespace(job=job, service=service, seconds_left=1000.0)
        inbox = Inbox[str](job)
        session = Session(work, inbox, Config("nano"), asyncio.get_running_loop())
        task: Any = SimpleNamespace(work=work, entry=SimpleNamespace(name="nano"), turn=nullcontext)
        stub: Any = SimpleNamespace(feed=stream.feed, commit=stream.commit, cancel=lambda: None)
        session._use(FedStream(task, stub, SoundFormat()))
        for message in messages:
            await inbox.put(json.dumps(message))

        def give(event: dict[str, Any]) -> None:
            events.append(event)
            if event["type"].endswith(("failed", "cleared")):
                job.cancel(gone)

        with pytest.raises(end):
            await asyncio.to_thread(session.run, give)
        return events, session

    return asyncio.run(run())


def test_a_stream_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    sound = base64.b64encode(bytes(48_000)).decode()
    events, _ = session_with(Broken(), {"type": "input_audio_buffer.append", "audio": sound})
    assert [event["type"].rpartition(".")[2] for event in events] == ["created", "committed", "added", "done", "failed"]
    assert events[-1]["item_id"] == events[1]["item_id"]
    assert events[-1]["error"]["type"] == "server_error"
    assert "a bug" in caplog.text


def test_sound_that_a_stream_failed_with_has_been(caplog: pytest.LogCaptureFixture) -> None:
    """The times of what is said later are those of the session."""
    sound = base64.b64encode(bytes(12 * 48_000)).decode()
    _, session = session_with(Broken(), {"type": "input_audio_buffer.append", "audio": sound})
    assert session._items.began == 12.0
    assert "a bug" in caplog.text


def test_a_commit_of_a_phrase_that_ends_by_itself() -> None:
    """It makes no other item."""
    started = StreamEvent("speech_started", 0, 0.5, 0.5)
    stream = SimpleNamespace(feed=lambda chunk: [started, final(" hello")], commit=list)
    sound = base64.b64encode(bytes(48_000)).decode()
    kinds = ("append", "commit", "clear")
    messages = [
        {"type": f"input_audio_buffer.{kind}", **({"audio": sound} if kind == "append" else {})} for kind in kinds
    ]
    events, _ = session_with(stream, *messages)
    told = [event["type"].rpartition(".")[2] for event in events if not event["type"].endswith("delta")]
    assert told == ["created", "speech_started", "committed", "added", "done", "completed", "cleared"]


def test_a_client_that_sends_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has said is transcribed before the session ends."""
    monkeypatch.setattr("max_whisper.serve.realtime.session.IDLE_SECONDS", 0.3)
    sound = base64.b64encode(bytes(48_000)).decode()
    events, _ = session_with(Speaking(), {"type": "input_audio_buffer.append", "audio": sound}, end=RequestError)
    assert events[-1]["type"] == COMPLETED
    assert events[-1]["transcript"] == "hello"


def test_the_inbox_has_a_bound() -> None:
    async def run() -> None:
        inbox = Inbox[str](Job("x"))
        await inbox.put("a")
        waiting = asyncio.ensure_future(inbox.put("b" * MOST_BYTES))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert [text[:1] for _, text in await asyncio.to_thread(inbox.take, 1)] == ["a", "b"]
        await asyncio.wait_for(waiting, 5)
        assert inbox.take(0) == []

    asyncio.run(run())


def test_messages_without_content_fill_the_inbox() -> None:
    """They take memory, too."""

    async def run() -> None:
        inbox = Inbox(Job("x"))
        most = MOST_BYTES // MESSAGE_BYTES
        for _ in range(most - 1):
            await asyncio.wait_for(inbox.put(""), 5)
        waiting = asyncio.ensure_future(inbox.put(""))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert len(await asyncio.to_thread(inbox.take, 1)) == most
        await asyncio.wait_for(waiting, 5)

    asyncio.run(run())


def test_a_cancelled_inbox_wakes_its_thread() -> None:
    async def run() -> None:
        job = Job("x")
        inbox = Inbox[str](job)
        taking = asyncio.ensure_future(asyncio.to_thread(inbox.take, 60))
        await asyncio.sleep(0.05)
        job.cancel(gone)
        with pytest.raises(Cancelled):
            await asyncio.wait_for(taking, 5)

    asyncio.run(run())
