"""Answers the requests of all callers of a model, those that are alike as the rows of one batch.

The scheduler has no thread of its own. A thread that waits for an answer computes the next batch, whoever asked for it,
unless another thread is computing. So requests of several threads share batches, and one batch is computed at a time.
A model that computes one window at a time has no batches to share: there each thread computes what it asks itself, at
the same time as the others, so that one uses the cores while another is between two tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from max_whisper.artifact.process import inside_max
from max_whisper.errors import Cancelled
from max_whisper.runtime.decoding.cancelling import Stop
from max_whisper.runtime.transcription.requests import Answer, Encode, Request


class AnswersRequests(Protocol):
    """What computes the answers (`Executor`)."""

    @property
    def batch(self) -> int:
        """The number of requests that can be answered at once."""

    def key(self, request: Request[Any]) -> Hashable:
        """Returns a value that is equal for requests that can be rows of one batch; raises UserError for wrong ones."""

    def answer(self, requests: Sequence[Request[Any]], stop: Stop) -> list[Any]:
        """Returns the answers to requests of one key. Raises Cancelled where `stop()` returns True before a token."""


class Caller:
    """The origin of requests that can be cancelled together, such as the transcription of one recording.

    Attributes:
        cancelled: Whether its requests have been cancelled (`Scheduler.cancel`).
    """

    def __init__(self) -> None:
        self.cancelled = False


class _Answer(Future[Any]):
    """The future of an answer.

    Attributes:
        finished: Whether it is done. Unlike `done()`, it needs no lock, which Ctrl-C in a thread may leave shut.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished = False
        self.add_done_callback(_finish)


def _finish(answer: Future[Any]) -> None:
    answer.finished = True  # type: ignore[attr-defined]


@dataclass(eq=False)
class _Ticket:
    """A request that has no answer yet.

    Attributes:
        passed_over: The number of groups that were chosen before it while it was in the queue.
    """

    request: Request[Any]
    caller: Caller
    key: Hashable
    future: _Answer = field(default_factory=_Answer)
    passed_over: int = 0

    def settle(self, outcome: Any) -> None:
        """Gives the future an answer or an exception, unless it is done already, such as by being cancelled."""
        with suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)


class Scheduler:
    """The queue of a model. All methods may be called from any thread."""

    def __init__(self, executor: AnswersRequests) -> None:
        self._executor = executor
        self._queue: list[_Ticket] = []  # with what is being computed, which leaves it when it is answered
        self._turns: dict[int, list[_Ticket]] = {}  # by thread, the group that it computes
        # Guards both. Entered as a lock, and not as a condition: Ctrl-C within `Condition.__enter__` leaves it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        inside_max.call_when_blocked(self.end_turn)

    @property
    def batch(self) -> int:
        """The number of requests that can be answered at once."""
        return self._executor.batch

    def submit(self, request: Request[Answer], caller: Caller | None = None) -> Future[Answer]:
        """Puts a request into the queue and returns the future of its answer, which is computed when a thread waits.

        The request is withdrawn by the future's own `cancel()`. The future of a wrong request has a UserError.
        """
        caller = caller or Caller()
        try:
            ticket = _Ticket(request, caller, self._executor.key(request))
        except Exception as error:
            failed = _Answer()
            failed.set_exception(error)
            return failed
        with self._lock:
            if caller.cancelled:
                ticket.future.set_exception(Cancelled())
            else:
                self._queue.append(ticket)
                self._changed.notify_all()
        return ticket.future

    def wait(self, futures: Iterable[Future[Any]]) -> None:
        """Returns once at least one of the futures is done. Until then this thread computes, unless another does."""
        futures = list(futures)
        # The first check needs no lock: in a forked process, a thread that does not exist there may hold it.
        while not _any_done(futures):
            try:
                self._compute(self._next_group(futures))
            finally:
                try:
                    self.end_turn()
                except BaseException:  # Ctrl-C in the middle of it would leave all other threads waiting
                    self.end_turn()
                    raise

    def ask(self, requests: Sequence[Request[Answer]], caller: Caller | None = None) -> list[Answer]:
        """Returns the answers to requests. Raises the error of the first that fails, and withdraws the others."""
        futures = [self.submit(request, caller) for request in requests]
        try:
            for future in futures:
                self.wait([future])
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def cancel(self, caller: Caller) -> None:
        """Makes all requests of a caller that have no answer yet, and all later ones, raise Cancelled.

        A thread that only waits for one of them goes on at once. A thread that computes one goes on at the next token
        if all requests of its batch are cancelled or withdrawn; an encoder run that has begun is not cut short.
        """
        with self._lock:
            caller.cancelled = True
            for ticket in self._queue:
                if ticket.caller is caller:
                    ticket.settle(Cancelled())
            self._changed.notify_all()

    def _next_group(self, futures: Sequence[Future[Any]]) -> list[_Ticket]:
        """Returns the tickets that this thread computes next; none once one of the futures is done."""
        with self._lock:
            while not _any_done(futures):
                if group := self._own(futures) if self.batch == 1 else self._most_urgent():
                    self._turns[threading.get_ident()] = group
                    for ticket in self._queue:
                        ticket.passed_over += ticket not in group
                    return group
                self._changed.wait()
        return []

    def _own(self, futures: Sequence[Future[Any]]) -> list[_Ticket]:
        """Returns the oldest ticket of some futures that no thread computes."""
        computed = [ticket for group in self._turns.values() for ticket in group]
        tickets = (ticket for ticket in self._queue if ticket.future in futures and ticket not in computed)
        return [ticket for ticket in tickets if not ticket.future.finished][:1]

    def _most_urgent(self) -> list[_Ticket]:
        """Returns the group that is answered next: windows to encode, else the largest; of equal ones the oldest.

        Windows come first because then their texts can be decoded together with others. A group becomes more urgent
        each time that another one is chosen, so that none waits forever. While a thread computes, there is none.
        """
        if self._turns:
            return []
        self._queue = [ticket for ticket in self._queue if not ticket.future.finished]
        groups: dict[Hashable, list[_Ticket]] = {}
        for ticket in self._queue:
            group = groups.setdefault(ticket.key, [])
            if len(group) < self.batch:
                group.append(ticket)

        def urgency(group: list[_Ticket]) -> int:
            encodes = isinstance(group[0].request, Encode)
            return group[0].passed_over + (self.batch + 1 if encodes else len(group))

        return max(groups.values(), key=urgency, default=[])

    def _compute(self, group: Sequence[_Ticket]) -> None:
        """Gives each future its answer. Where a batch fails, each is computed alone: one may have caused the error."""
        if not group:
            return
        requests = [ticket.request for ticket in group]
        try:
            answers = self._executor.answer(requests, lambda: all(ticket.future.finished for ticket in group))
        except Exception as error:
            if len(group) == 1:
                group[0].settle(error)
            for ticket in group:
                if not ticket.future.finished:
                    self._compute([ticket])
            return
        for ticket, answer in zip(group, answers, strict=True):
            ticket.settle(answer)

    def end_turn(self) -> None:
        """Lets other threads compute instead of this one. What it has not answered is in the queue for them.

        That is so after Ctrl-C, and when the interpreter ends and blocks this thread before its next call of MAX.
        """
        thread = threading.get_ident()
        if thread in self._turns:
            for ticket in self._turns[thread]:  # Ctrl-C may have come between the answer and the note of it
                ticket.future.finished = ticket.future.finished or ticket.future.done()
            with self._lock:
                self._queue = [ticket for ticket in self._queue if not ticket.future.finished]
                self._changed.notify_all()
                del self._turns[thread]  # last: after Ctrl-C before it, all of this is done once more


def _any_done(futures: Sequence[Future[Any]]) -> bool:
    return any(future.finished for future in futures)  # type: ignore[attr-defined]
