"""The places for live streams, of which there are only so many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from max_whisper.serve.errors import RequestError
from max_whisper.serve.metrics import Metrics


class Places:
    """Counts the streams that run. Its methods belong to the event loop."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        """Makes so many places."""
        self._most = most
        self._metrics = metrics
        self._running = 0
        metrics.streams.set_function(lambda: self._running)

    @property
    def has_room(self) -> bool:
        """Whether there is a place that nobody has."""
        return self._running < self._most

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Has a place for the time of a block. Raises RequestError where all are taken."""
        if not self.has_room:
            self._metrics.refused.labels("too_many_streams").inc()
            raise RequestError(
                429,
                f"the server transcribes {self._running} streams already, which is as many as it takes: connect again "
                "when another one has ended",
                kind="rate_limit_error",
                code="too_many_streams",
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
