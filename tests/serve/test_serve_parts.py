"""The parts of the server by themselves: turns, jobs, and text that is cut into deltas."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from max_whisper import Model
from max_whisper.errors import AudioError, Cancelled
from max_whisper.options import OptionError
from max_whisper.serve.errors import LONGEST_PARAM, RequestError, request_error
from max_whisper.serve.jobs import Job, gone, stopping
from max_whisper.serve.text_stream import TextStream
from max_whisper.serve.turns import Turns
from support.server import until


def test_turns_go_round() -> None:
    turns, order, left = Turns(), list[str](), {"a": 6, "b": 3, "c": 1}

    def work(name: str) -> None:
        while left[name]:
            with turns.take(Job(name), "model", 1):
                others = sum(left[other] > 0 for other in left if other != name)
                until(lambda expected=others: turns.waiting == expected)
                order.append(name)
                left[name] -= 1

    threads = [threading.Thread(target=work, args=[name]) for name in left]
    with turns.take(Job("first"), "model", 1):
        for number, thread in enumerate(threads):
            thread.start()
            until(lambda behind=number: turns.waiting == behind + 1)
    for thread in threads:
        thread.join()
    assert order == [*"abcababaaa"]


def test_turns_of_one_kind_run_at_once_and_others_wait() -> None:
    turns, order = Turns(), list[str]()

    def work(kind: str) -> None:
        with turns.take(Job(kind), kind, 2):
            order.append(kind)

    threads = [threading.Thread(target=work, args=[kind]) for kind in "ab"]
    with turns.take(Job("a"), "a", 2):
        with turns.take(Job("a"), "a", 2):
            for number, thread in enumerate(threads):
                thread.start()
                until(lambda behind=number: turns.waiting == behind + 1)
            assert order == []  # there are two already
        threads[0].join(60)
        assert (order, turns.waiting) == (["a"], 1)  # the other kind waits for both
    threads[1].join(60)
    assert order == ["a", "b"]


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
        until(lambda: turns.waiting)
        waiting.cancel(gone)
        thread.join(60)
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
    job.cancel(stopping)
    job.cancel(gone)
    assert job.reason and job.reason.code == "server_stopping"
    assert job.reason is not job.reason  # an error that was raised holds what its functions held
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
    json.dumps(RequestError(400, "x", param="\ud800" * 500).body(), ensure_ascii=False).encode()
    assert len(RequestError(400, "x", param="y" * 500).body()["error"]["param"]) <= LONGEST_PARAM
    known = RequestError(418, "a teapot")
    assert request_error(known) is known
