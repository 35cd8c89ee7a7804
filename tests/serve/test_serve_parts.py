"""The parts of the server by themselves: turns, jobs, and text that is cut into deltas."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from max_whisper import Model
from max_whisper.errors import AudioError, Cancelled
from max_whisper.options import OptionError
from max_whisper.serve.errors import RequestError, request_error
from max_whisper.serve.jobs import Job, gone, stopping
from max_whisper.serve.openai.text_stream import TextStream
from max_whisper.serve.turns import Turns


def in_turn(turns: Turns, order: list[str], name: str, kind: str, windows: int, at_once: int = 1) -> threading.Thread:
    """Starts a thread that takes some turns, and waits until it has its first or waits for it."""

    def work() -> None:
        for _ in range(windows):
            with turns.take(job, kind, at_once):
                order.append(name)
                time.sleep(0.02)

    job, thread = Job(name), threading.Thread(target=work)
    thread.start()
    time.sleep(0.005)
    return thread


def test_turns_go_round() -> None:
    turns, order = Turns(), list[str]()
    threads = [in_turn(turns, order, name, "model", windows) for name, windows in (("a", 6), ("b", 3), ("c", 1))]
    for thread in threads:
        thread.join()
    assert order[:6] == ["a", "b", "c", "a", "b", "a"]
    assert order[6:] in (["b", "a", "a", "a"], ["b", "a", "a"]), order


def test_turns_of_one_kind_run_at_once_and_others_wait() -> None:
    turns, running, seen, lock = Turns(), dict[str, int](), list[dict[str, int]](), threading.Lock()

    def work(kind: str) -> None:
        for _ in range(5):
            with turns.take(Job(kind), kind, 2):
                with lock:
                    running[kind] = running.get(kind, 0) + 1
                    seen.append({name: count for name, count in running.items() if count})
                time.sleep(0.003)
                with lock:
                    running[kind] -= 1

    threads = [threading.Thread(target=work, args=[kind]) for kind in "aaab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(now) == 1 for now in seen)
    assert max(max(now.values()) for now in seen) == 2
    assert any(now == {"b": 1} for now in seen)


def test_who_waits_for_a_turn_can_be_cancelled() -> None:
    turns, order, waiting = Turns(), list[str](), Job("waits")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            with turns.take(waiting, "model", 1):
                order.append("waits")
        except Cancelled as error:
            errors.append(error)

    with turns.take(Job("works"), "model", 1):
        thread = threading.Thread(target=wait)
        thread.start()
        while not turns.waiting:
            time.sleep(0.001)
        waiting.cancel(gone())
        thread.join(5)
        assert not thread.is_alive()
    assert len(errors) == 1
    assert order == []
    with turns.take(Job("next"), "model", 1):  # the queue is as it was
        assert turns.waiting == 0


def test_a_turn_is_given_back_after_an_error() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.take(Job("a"), "model", 1):
        raise ZeroDivisionError
    with turns.take(Job("b"), "model", 1):
        pass


def test_the_first_reason_counts() -> None:
    job, calls = Job("a"), list[int]()
    job.on_cancel(lambda: calls.append(1))
    withdraw = job.on_cancel(lambda: calls.append(2))
    withdraw()
    first = stopping()
    job.cancel(first)
    job.cancel(gone())
    assert job.reason is first
    assert calls == [1]
    job.on_cancel(lambda: calls.append(3))
    assert calls == [1, 3]
    with pytest.raises(Cancelled):
        job.check()


def test_deltas_hold_back_what_may_change(nano: Model) -> None:
    """A character is cut in two by a window, and spaces follow a text: joined, the deltas are the text at the end."""
    pieces = [b" caf", b"\xc3", b"\xa9 ", b" \xe2\x82", b"x", b" end ", b"\xff"]
    tokenizer: Any = SimpleNamespace(decode=lambda ids: b"".join(pieces[i] for i in ids).decode(errors="replace"))
    stream, deltas = TextStream(tokenizer), []
    for i in range(len(pieces)):
        deltas.append(stream.add([_segment([i])]))
    whole = tokenizer.decode(range(len(pieces))).strip()
    deltas.append(stream.rest(whole))
    assert "".join(deltas) == whole
    assert deltas[:3] == ["caf", "", "é"]


def _segment(tokens: Sequence[int]) -> Any:
    return SimpleNamespace(tokens=tokens)


def test_errors_name_fields_as_requests_have_them() -> None:
    error = request_error(OptionError("{hotwords}: too long for {vad_threshold}"))
    assert (error.status, str(error)) == (400, "keywords: too long for chunking_strategy.threshold")
    assert request_error(AudioError("no sound")).param == "file"
    unknown = request_error(ZeroDivisionError("x"))
    assert (unknown.status, unknown.kind) == (500, "server_error")
    assert "ZeroDivisionError" in str(unknown)
    known = RequestError(418, "a teapot")
    assert request_error(known) is known
