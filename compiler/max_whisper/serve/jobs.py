"""A job is the work for one request: it can be cancelled from any thread, and says why it was."""

from __future__ import annotations

import threading
from collections.abc import Callable

from max_whisper.errors import Cancelled
from max_whisper.serve.errors import RequestError

Reason = Callable[[], RequestError]
"""Makes the answer that says why work was cancelled. An error that was raised keeps the variables of all functions that
it went through, the recording among them, so each time a new one is made, and none is kept."""


def gone() -> RequestError:
    """Returns the reason to end the work of a client that has closed its connection; nobody reads it."""
    message = "the client closed the connection before the answer was there"
    return RequestError(499, message, code="client_closed_request")


def too_long() -> RequestError:
    """Returns the answer to a request that takes more time than the server gives it."""
    return RequestError(
        504,
        "the request took longer than this server gives to one: send a shorter recording, or send it again when fewer "
        "others wait",
        kind="server_error",
        code="request_timeout",
        headers={"x-should-retry": "false"},  # it would take as long again
    )


def stopping() -> RequestError:
    """Returns the answer to a request that the end of the server cuts short, or that comes after it."""
    return RequestError(
        503,
        "the server is stopping: send the request again when it is back",
        kind="server_error",
        code="server_stopping",
        headers={"retry-after": "5"},
    )


class Job:
    """The work for one request. All methods may be called from any thread.

    Attributes:
        name: What the log calls its request.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._callbacks: dict[object, Callable[[], None]] = {}

    @property
    def cancelled(self) -> bool:
        """Whether the work was cancelled."""
        return self._reason is not None

    @property
    def reason(self) -> RequestError | None:
        """A new error that says why the work was cancelled; None where it was not."""
        return None if self._reason is None else self._reason()

    def check(self) -> None:
        """Raises Cancelled if the work was cancelled."""
        if self.cancelled:
            raise Cancelled

    def cancel(self, reason: Reason) -> None:
        """Ends the work soon: at the next token, or at the end of a run of the encoder. The first reason counts."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            callbacks = [*self._callbacks.values()]
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls a function when the work is cancelled, or now where it was; returns a function that withdraws it."""
        key = object()
        with self._lock:
            if self._reason is None:
                self._callbacks[key] = callback
        if self.cancelled:
            callback()
        return lambda: self._withdraw(key)

    def _withdraw(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)
