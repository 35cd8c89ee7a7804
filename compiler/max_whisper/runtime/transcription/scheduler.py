"""Answers the requests of all callers of a model, those that are alike as the rows of one batch.

There is no thread for it: whoever waits for an answer computes, his own or that of another, unless somebody else does
already. So requests of several threads share batches, and the model works for one batch at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

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
        """Returns the answers to requests of one key. Raises Cancelled once `stop()` is True before a token."""


class Caller:
    """Somebody who makes requests, such as the transcription of one recording.

    Attributes:
        cancelled: Whether its requests have been cancelled (`Scheduler.cancel`).
    """

    def __init__(self) -> None:
        self.cancelled = False


@dataclass(eq=False)
class _Ticket:
    """A request in the queue.

    Attributes:
        passed_over: How often another group was answered before it.
    """

    request: Request[Any]
    caller: Caller
    key: Hashable
    future: Future[Any] = field(default_factory=Future)
    passed_over: int = 0

    def settle(self, outcome: Any) -> None:
        """Gives the future an answer or an exception, unless it was cancelled meanwhile."""
        with suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)


class Scheduler:
    """The queue of a model. All methods may be called from any thread."""

    def __init__(self, executor: AnswersRequests) -> None:
        self._executor = executor
        self._queue: list[_Ticket] = []
        self._worker: int | None = None  # the thread that computes
        self._group: list[_Ticket] = []  # what it computes
        # Guards these. It is a lock of its own because Ctrl-C can come within `Condition.__enter__`, not within this.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    @property
    def batch(self) -> int:
        """The number of requests that can be answered at once."""
        return self._executor.batch

    def submit(self, request: Request[Answer], caller: Caller | None = None) -> Future[Answer]:
        """Puts a request into the queue and returns the future of its answer; somebody must `wait` for it.

        A future in the queue can be cancelled by its own `cancel()`. Of a wrong request, the future has a UserError.
        """
        caller = caller or Caller()
        try:
            ticket = _Ticket(request, caller, self._executor.key(request))
        except Exception as error:
            failed: Future[Answer] = Future()
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
        self._finish()  # in case that Ctrl-C came while this thread did so
        # Asked without the lock at first: in a forked process a thread that is not there may hold it.
        while not _any_done(futures):
            try:
                self._compute(self._next_group(futures))
                self._finish()
            finally:  # Ctrl-C may come between any two lines, in `_finish` as well; others must be able to go on
                self._finish()

    def ask(self, requests: Sequence[Request[Answer]]) -> list[Answer]:
        """Returns the answers to requests. Raises what the first that fails raises; the others are withdrawn then."""
        futures = [self.submit(request) for request in requests]
        try:
            for future in futures:
                self.wait([future])
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def cancel(self, caller: Caller) -> None:
        """Cancels what a caller asks now and later: all of it raises Cancelled.

        What is in the queue is cancelled at once; a text that is being decoded, before its next token, if all that
        share its batch are cancelled; an encoder run that has begun, at its end.
        """
        with self._lock:
            caller.cancelled = True
            for ticket in self._queue:
                if ticket.caller is caller:
                    ticket.settle(Cancelled())
            self._changed.notify_all()

    def _next_group(self, futures: Sequence[Future[Any]]) -> list[_Ticket]:
        """Returns the tickets that this thread answers next, until it calls `_finish`; none once a future is done."""
        with self._lock:
            while not _any_done(futures):
                if self._worker is None and (group := self._most_urgent()):
                    self._group, self._worker = group, threading.get_ident()
                    self._queue = [ticket for ticket in self._queue if ticket not in group]
                    for ticket in self._queue:
                        ticket.passed_over += 1
                    return group
                self._changed.wait()
        return []

    def _most_urgent(self) -> list[_Ticket]:
        """Returns the group that is answered next: windows to encode, else the largest; of equal ones the oldest.

        Windows come first because their texts can join other texts then. What was passed over counts for more each
        time, so that nothing waits for ever.
        """
        self._queue = [ticket for ticket in self._queue if not ticket.future.done()]
        groups: dict[Hashable, list[_Ticket]] = {}
        for ticket in self._queue:
            group = groups.setdefault(ticket.key, [])
            if len(group) < self.batch:
                group.append(ticket)

        def urgency(group: list[_Ticket]) -> int:
            encodes = isinstance(group[0].request, Encode)
            return group[0].passed_over + (self.batch + 1 if encodes else len(group))

        return max(groups.values(), key=urgency, default=[])

    def _finish(self) -> None:
        """Ends the work of this thread, if it has any. What was not answered goes back into the queue."""
        if self._worker != threading.get_ident():
            return
        with self._lock:
            unanswered = [ticket for ticket in self._group if not ticket.future.done() and ticket not in self._queue]
            self._queue = unanswered + self._queue
            self._changed.notify_all()
            self._worker = None  # last, as Ctrl-C may come before

    def _compute(self, group: list[_Ticket]) -> None:
        """Gives each future its answer. Where a batch fails, each is asked alone: the fault may be that of one."""
        if not group:
            return
        requests = [ticket.request for ticket in group]
        try:
            answers = self._executor.answer(requests, lambda: all(ticket.caller.cancelled for ticket in group))
        except Exception as error:
            if len(group) > 1 and not isinstance(error, Cancelled):
                for ticket in group:
                    self._compute([ticket])
            else:
                for ticket in group:
                    ticket.settle(error)
            return
        for ticket, answer in zip(group, answers, strict=True):
            ticket.settle(Cancelled() if ticket.caller.cancelled else answer)


def _any_done(futures: Sequence[Future[Any]]) -> bool:
    return any(future.done() for future in futures)
