"""Runs the work of requests in threads, of which there are only so many, and ends it when nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from max_whisper.artifact.cores import usable_cores
from max_whisper.errors import Cancelled
from max_whisper.runtime.model import Model
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import Job, gone, stopping, too_long
from max_whisper.serve.metrics import Metrics
from max_whisper.serve.options import ServeOptions
from max_whisper.serve.pool import Entry, ModelPool
from max_whisper.serve.turns import Turns

Result = TypeVar("Result")
Gone = Callable[[], Awaitable[None]]
"""Returns when the client has closed its connection."""
RETRY_SECONDS = 2
"""The seconds after which a client that was refused may ask again."""

DECODERS_PER_CORE = 4
"""The recordings that are decoded at once: more than there are cores, so that no long one keeps a short one waiting."""


@dataclass(eq=False)
class Work:
    """A request that was admitted: what its handler works with.

    Attributes:
        service: The server that it belongs to.
        job: What is cancelled when nobody waits for the answer any more.
        gone: Waits until the client has closed its connection.
        deadline: When its time is over, by `time.monotonic`.
        held: Closes what the work needs (files, leases of models) after its thread has ended.
    """

    service: Service
    job: Job
    gone: Gone
    deadline: float
    held: AsyncExitStack = field(default_factory=AsyncExitStack)
    _thread: asyncio.Future[Any] | None = None

    async def model(self, entry: Entry) -> Model:
        """Returns a model, which stays loaded until the work is over."""
        return await self.held.enter_async_context(self.service.pool.lease(entry))

    @property
    def seconds_left(self) -> float:
        """The time that is left, in seconds."""
        return max(0.0, self.deadline - time.monotonic())

    async def run(self, function: Callable[[], Result]) -> Result:
        """Runs a function in a thread and returns its result.

        Where the client goes, the time is over, or the server stops, the job is cancelled: the function gets Cancelled
        from whatever it calls with the job. Raises the reason as a RequestError then, and else the function's error.
        """
        thread: asyncio.Future[Result] = asyncio.get_running_loop().run_in_executor(self.service.threads, function)
        self._thread = thread
        gone_task = asyncio.ensure_future(self.gone())
        waited: set[asyncio.Future[Any]] = {thread, gone_task}
        try:
            await asyncio.wait(waited, timeout=self.seconds_left, return_when=asyncio.FIRST_COMPLETED)
            if not thread.done():
                self.job.cancel(gone() if gone_task.done() else too_long())
                await asyncio.wait({thread})
            return self._outcome(thread)
        finally:
            gone_task.cancel()

    async def stream(self, function: Callable[[Callable[[Any], None]], None]) -> AsyncIterator[Any]:
        """Runs a function in a thread and yields what it gives to the function that it is called with.

        It ends as `run` does; whoever iterates stops when the client has gone.
        """
        loop, items = asyncio.get_running_loop(), asyncio.Queue[Any]()
        end = object()

        def give(item: Any) -> None:
            loop.call_soon_threadsafe(items.put_nowait, item)

        thread = loop.run_in_executor(self.service.threads, function, give)
        self._thread = thread
        thread.add_done_callback(lambda _: items.put_nowait(end))
        try:
            while True:
                try:
                    item = await asyncio.wait_for(items.get(), None if self.job.cancelled else self.seconds_left)
                except asyncio.TimeoutError:
                    self.job.cancel(too_long())
                    continue
                if item is end:
                    break
                yield item
            self._outcome(thread)
        finally:
            if not thread.done():
                self.job.cancel(gone())

    def _outcome(self, thread: asyncio.Future[Result]) -> Result:
        """Returns the result of a thread that has ended, or raises its error or the reason for which it was cancelled.

        What is done before the cancellation reaches it is given nevertheless.
        """
        try:
            return thread.result()
        except Cancelled:
            raise self.job.reason or gone() from None

    async def close(self) -> None:
        """Ends the work, waits until its thread has ended, and closes what it needed."""
        if self._thread is not None and not self._thread.done():
            self.job.cancel(gone())
            while not self._thread.done():  # even where this task is cancelled itself: files are still in use
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({self._thread})
        if self._thread is not None and not self._thread.cancelled():
            self._thread.exception()  # or asyncio would log one that nobody has asked for
        await self.held.aclose()


class Service:
    """What all protocols of a server share.

    Attributes:
        options: The limits.
        pool: The models.
        metrics: What is counted and timed.
        turns: The queue of those that want to compute a window.
        decoding: The queue of those that want to decode a file, in a process of its own, or to find speech in one.
        decoders: The number of these at the same time.
        threads: The threads in which the work is done, one for each request.
    """

    def __init__(self, options: ServeOptions, pool: ModelPool, metrics: Metrics) -> None:
        self.options = options
        self.pool = pool
        self.metrics = metrics
        self.turns = Turns(metrics.waiting.observe)
        self.decoding = Turns()
        self.decoders = DECODERS_PER_CORE * len(usable_cores())
        self.threads = ThreadPoolExecutor(options.max_requests, thread_name_prefix="request")
        self.stopping = False
        self._works: set[Work] = set()
        metrics.running.set_function(lambda: len(self._works))
        metrics.queue.set_function(lambda: self.turns.waiting)

    @property
    def running(self) -> int:
        """The number of requests that are worked on or wait."""
        return len(self._works)

    @asynccontextmanager
    async def admitted(self, name: str, gone: Gone) -> AsyncIterator[Work]:
        """Yields the work for a request, which counts against the limit until the block ends and its thread has ended.

        Args:
            name: The path or protocol, for metrics.
            gone: Waits until the client has closed its connection.

        Raises:
            RequestError: There are too many requests (429), or the server is stopping (503).
        """
        if self.stopping:
            raise self._refusal(stopping())
        if self.running >= self.options.max_requests:
            raise self._refusal(
                RequestError(
                    429,
                    f"the server works on {self.running} requests already, and takes no more: send it again in "
                    f"{RETRY_SECONDS} seconds",
                    kind="rate_limit_error",
                    code="rate_limit_exceeded",
                    headers={"retry-after": str(RETRY_SECONDS)},
                )
            )
        work = Work(self, Job(name), gone, time.monotonic() + self.options.max_request_seconds)
        self._works.add(work)
        try:
            yield work
        finally:
            await work.close()
            self._works.discard(work)
            if work.job.reason is not None:
                self.metrics.cancelled.labels(work.job.reason.code).inc()

    def _refusal(self, error: RequestError) -> RequestError:
        self.metrics.refused.labels(error.code).inc()
        return error

    async def stop(self) -> None:
        """Lets running requests end for some seconds, and cancels the others; new ones are refused from now on."""
        self.stopping = True
        deadline = time.monotonic() + self.options.stop_seconds
        while self._works and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for work in self._works:
            work.job.cancel(stopping())

    def close(self) -> None:
        """Ends the threads. All requests have ended by then."""
        self.threads.shutdown(wait=True, cancel_futures=True)
