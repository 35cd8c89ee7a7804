"""The queue of requests: who computes, what shares a batch, what is cancelled. The answers are made up."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from max_whisper.errors import Cancelled, UserError
from max_whisper.runtime.transcription.requests import Encode, Request
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler

BATCH = 3
SECONDS = 20  # that a thread is waited for


@dataclass(frozen=True, eq=False)
class Say(Request[str]):
    """Asks for a text in capitals. Those of one kind can be answered at once."""

    text: str
    kind: str = ""


class Executor:
    """Answers requests, and notes which were answered at once."""

    batch = BATCH

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.before: Callable[[Sequence[Request[Any]], Callable[[], bool]], None] = lambda requests, stop: None

    def key(self, request: Request[Any]) -> str:
        if isinstance(request, Say) and request.text == "wrong":
            raise UserError("a wrong request")
        return request.kind if isinstance(request, Say) else "encode"

    def answer(self, requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> list[Any]:
        self.groups.append([request.text if isinstance(request, Say) else "mel" for request in requests])
        self.before(requests, stop)
        return [request.text.upper() if isinstance(request, Say) else "features" for request in requests]


@pytest.fixture
def executor() -> Executor:
    return Executor()


@pytest.fixture
def scheduler(executor: Executor) -> Scheduler:
    return Scheduler(executor)


class Held:
    """Makes the executor wait within its first answer until it is let go."""

    def __init__(self, executor: Executor) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        executor.before = self

    def __call__(self, requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
        if not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(SECONDS)


def test_alike_requests_are_answered_at_once(scheduler: Scheduler, executor: Executor) -> None:
    assert scheduler.ask([Say(text) for text in "abcde"]) == [*"ABCDE"]
    assert executor.groups == [["a", "b", "c"], ["d", "e"]]


def test_others_are_not(scheduler: Scheduler, executor: Executor) -> None:
    assert scheduler.ask([Say("a", "x"), Say("b", "y"), Say("c", "x")]) == ["A", "B", "C"]
    assert executor.groups == [["a", "c"], ["b"]]


def test_threads_share_a_batch(scheduler: Scheduler, executor: Executor) -> None:
    held = Held(executor)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(scheduler.ask, [Say("first")])
        assert held.begun.wait(SECONDS)
        others = [pool.submit(scheduler.ask, [Say(text)]) for text in "abc"]
        while len(scheduler._queue) < 1 + len(others):
            pass
        held.go.set()
        assert [first.result(SECONDS), *(other.result(SECONDS) for other in others)] == [["FIRST"], ["A"], ["B"], ["C"]]
    assert [sorted(group) for group in executor.groups] == [["first"], ["a", "b", "c"]]


def test_one_thread_computes_at_a_time(scheduler: Scheduler, executor: Executor) -> None:
    inside: list[int] = []

    def alone(requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
        assert not inside
        inside.append(1)
        threading.Event().wait(0.001)
        inside.pop()

    executor.before = alone
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(scheduler.ask, [Say(f"{i}", f"{i % 5}") for i in range(n, n + 4)]) for n in range(40)]
        for n, future in enumerate(asked):
            assert future.result(SECONDS) == [f"{i}" for i in range(n, n + 4)]


def test_without_batches_each_thread_computes_its_own_at_the_same_time(executor: Executor) -> None:
    executor.batch = 1
    scheduler = Scheduler(executor)
    both_inside = threading.Barrier(2, timeout=SECONDS)
    computed_by: dict[str, int] = {}

    def meet(requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
        (request,) = requests
        assert isinstance(request, Say)
        computed_by[request.text] = threading.get_ident()
        both_inside.wait()

    executor.before = meet
    with ThreadPoolExecutor(2) as pool:

        def asked(text: str) -> tuple[list[str], int]:
            return scheduler.ask([Say(text)]), threading.get_ident()

        for text, (answers, thread) in zip("ab", pool.map(asked, "ab"), strict=True):
            assert answers == [text.upper()] and computed_by[text] == thread
    assert scheduler._queue == [] and scheduler._turns == {}


def test_windows_are_encoded_first_so_that_their_texts_can_join(scheduler: Scheduler, executor: Executor) -> None:
    mel = np.zeros((80, 10), np.float32)
    futures = [scheduler.submit(Say("a")), scheduler.submit(Say("b")), scheduler.submit(Encode(mel))]
    for future in futures:
        scheduler.wait([future])
    assert executor.groups == [["mel"], ["a", "b"]]


def test_nothing_waits_forever(scheduler: Scheduler, executor: Executor) -> None:
    """Groups that are larger come again and again; the one that is alone gets its turn all the same."""
    lonely = scheduler.submit(Say("lonely", "x"))
    for turn in range(20):
        larger = [scheduler.submit(Say(text, f"y{turn}")) for text in "abc"]
        scheduler.wait(larger)
        if lonely.done():
            break
        for future in larger:
            scheduler.wait([future])
    assert lonely.done() and 1 <= turn <= BATCH


def test_what_is_wrong_fails_alone(scheduler: Scheduler, executor: Executor) -> None:
    wrong, right = scheduler.submit(Say("wrong")), scheduler.submit(Say("right"))
    with pytest.raises(UserError, match="a wrong request"):
        wrong.result()
    scheduler.wait([right])
    assert right.result() == "RIGHT"
    with pytest.raises(UserError, match="a wrong request"):
        scheduler.ask([Say("a"), Say("wrong"), Say("b")])
    assert not [ticket for ticket in scheduler._queue if not ticket.future.done()]


def test_one_that_fails_in_a_batch_does_not_take_the_others_along(scheduler: Scheduler, executor: Executor) -> None:
    def fail(requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
        if any(isinstance(request, Say) and request.text == "b" for request in requests):
            raise UserError("b cannot be said")

    executor.before = fail
    futures = [scheduler.submit(Say(text)) for text in "abc"]
    for future in futures:
        scheduler.wait([future])
    assert (futures[0].result(), futures[2].result()) == ("A", "C")
    with pytest.raises(UserError, match="b cannot be said"):
        futures[1].result()
    assert executor.groups == [["a", "b", "c"], ["a"], ["b"], ["c"]]


def test_what_is_in_the_queue_is_cancelled_at_once(scheduler: Scheduler, executor: Executor) -> None:
    held, caller = Held(executor), Caller()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(scheduler.ask, [Say("first")])
        assert held.begun.wait(SECONDS)
        queued = scheduler.submit(Say("queued", "x"), caller)
        waiting = pool.submit(scheduler.wait, [queued])
        scheduler.cancel(caller)
        waiting.result(SECONDS)  # although another still computes
        with pytest.raises(Cancelled):
            queued.result()
        with pytest.raises(Cancelled):
            scheduler.submit(Say("later"), caller).result()
        held.go.set()
        assert first.result(SECONDS) == ["FIRST"]
    assert executor.groups == [["first"]]


def test_a_text_stops_at_a_token_when_all_of_its_batch_are_cancelled(scheduler: Scheduler, executor: Executor) -> None:
    callers, asked = [Caller(), Caller()], []

    def tokens(requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
        for caller in callers:
            asked.append(stop())
            scheduler.cancel(caller)
        if stop():
            raise Cancelled

    executor.before = tokens
    futures = [scheduler.submit(Say("a"), callers[0]), scheduler.submit(Say("b"), callers[1])]
    scheduler.wait(futures)
    assert asked == [False, False]
    for future in futures:
        with pytest.raises(Cancelled):
            future.result()


def test_an_answer_that_nobody_wants_any_more_is_not_given(scheduler: Scheduler, executor: Executor) -> None:
    caller = Caller()
    executor.before = lambda requests, stop: scheduler.cancel(caller)
    unwanted, wanted = scheduler.submit(Say("a"), caller), scheduler.submit(Say("b"))
    scheduler.wait([unwanted])
    with pytest.raises(Cancelled):
        unwanted.result()
    assert wanted.result() == "B"


def test_what_is_withdrawn_is_not_computed(scheduler: Scheduler, executor: Executor) -> None:
    withdrawn, kept = scheduler.submit(Say("withdrawn")), scheduler.submit(Say("kept"))
    assert withdrawn.cancel()
    scheduler.wait([kept])
    assert executor.groups == [["kept"]]
    with pytest.raises(CancelledError):
        withdrawn.result()


def test_ctrl_c_in_one_thread_leaves_the_requests_of_others(scheduler: Scheduler, executor: Executor) -> None:
    """Whoever computes is interrupted, and the request of another goes back into the queue."""

    def interrupt(requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
        executor.before = lambda requests, stop: None
        raise KeyboardInterrupt

    executor.before = interrupt
    other = scheduler.submit(Say("other"))
    with pytest.raises(KeyboardInterrupt):
        scheduler.ask([Say("mine")])
    scheduler.wait([other])
    assert other.result() == "OTHER"
    assert executor.groups == [["other", "mine"], ["other"]]


def test_a_thread_whose_request_is_cancelled_does_not_wait(scheduler: Scheduler, executor: Executor) -> None:
    """Its request is being computed by another thread, which shares the batch with it."""
    held, caller = Held(executor), Caller()
    with ThreadPoolExecutor(2) as pool:
        cancelled, wanted = scheduler.submit(Say("a"), caller), scheduler.submit(Say("b"))
        computing = pool.submit(scheduler.wait, [wanted])
        assert held.begun.wait(SECONDS)
        waiting = pool.submit(scheduler.wait, [cancelled])
        scheduler.cancel(caller)
        waiting.result(SECONDS)
        with pytest.raises(Cancelled):
            cancelled.result()
        held.go.set()
        computing.result(SECONDS)
    assert wanted.result() == "B"


def test_a_text_stops_at_a_token_when_nobody_wants_it_any_more(scheduler: Scheduler, executor: Executor) -> None:
    def withdraw(requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
        assert not stop()
        assert future.cancel()
        assert stop()
        raise Cancelled

    executor.before = withdraw
    future = scheduler.submit(Say("a"))
    scheduler.wait([future])
    assert future.cancelled()


def test_the_queue_keeps_nothing_that_is_answered(scheduler: Scheduler) -> None:
    scheduler.ask([Say(text) for text in "abcd"])
    assert not scheduler._queue


def test_an_interrupt_at_any_line_leaves_the_scheduler_usable(scheduler: Scheduler) -> None:
    """A trace function raises it, at the first line of the scheduler that runs, then at the second, and so on."""
    file = inspect.getsourcefile(Scheduler)
    assert file is not None
    lines = Path(file).read_text().splitlines()

    def interrupt_at(line: int) -> bool:
        """Asks for an answer; returns whether that took so many lines that it was interrupted."""
        left = line

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != file:
                return None
            # Leaving a `with` block and entering a `try` block are lines, too, but Python handles no signal there.
            if event == "line" and not lines[frame.f_lineno - 1].lstrip().startswith(("with ", "try:")):
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            scheduler.ask([Say("mine", "x"), Say("mine")])
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    def answer_in_a_thread() -> list[str]:
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.extend(scheduler.ask([Say("later")])), daemon=True)
        thread.start()
        thread.join(SECONDS)
        return answers

    interrupted = 0
    while interrupt_at(interrupted + 1):
        interrupted += 1
        assert answer_in_a_thread() == ["LATER"], f"no answer after an interrupt at line {interrupted}"
    assert interrupted > 50


def test_ctrl_c_while_the_others_are_told_is_no_end_of_their_wait(
    scheduler: Scheduler, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C within `notify_all` at the end of a turn: the thread that waits for its turn is told all the same."""

    def interrupt() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:

        def other_waits(requests: Sequence[Request[Any]], stop: Callable[[], bool]) -> None:
            executor.before = lambda requests, stop: None
            others.append(pool.submit(scheduler.ask, [Say("other")]))
            while not scheduler._changed._waiters:  # type: ignore[attr-defined]
                pass
            monkeypatch.setattr(scheduler._changed, "notify_all", interrupt)

        others: list[Future[list[str]]] = []
        executor.before = other_waits
        with pytest.raises(KeyboardInterrupt):
            scheduler.ask([Say("mine")])
        try:
            assert others[0].result(2) == ["OTHER"]
        finally:
            with scheduler._lock:
                scheduler._changed.notify_all()  # else the pool would wait for ever where the test fails
