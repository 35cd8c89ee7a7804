"""Runs the work of requests in threads, of which there are only so many, and ends it when nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from max_whisper.artifact.cores import usable_cores
from max_whisper.errors import Cancelled
from max_whisper.runtime.model import Model
from max_whisper.serve.errors import RequestError
from max_whisper.serve.handover import END, Handover
from max_whisper.serve.jobs import Job, gone, no_room, stopping, too_long
from max_whisper.serve.metrics import Metrics
from max_whisper.serve.options import ServeOptions
from max_whisper.serve.pool import Entry, ModelPool
from max_whisper.serve.turns import Turns

Result = TypeVar("Result")
Gone = Callable[[], Awaitable[None]]
"""Returns when the client has closed its connection."""
RETRY_SECONDS = 2
"""The seconds after which a client that was refused may ask again."""

DECODERS_PER_CORE = 2
"""The short recordings that are decoded at once, and as many long ones besides."""
UPLOADS_STORED = 8
"""All uploads together may have as many bytes as this number of the largest ones."""


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
    _stored: int = 0

    async def model(self, entry: Entry) -> Model:
        """Returns a model, which stays loaded until the work is over. Where it must be loaded, this ends as `run`."""
        return await self.held.enter_async_context(self.lease(entry))

    @asynccontextmanager
    async def lease(self, entry: Entry) -> AsyncIterator[Model]:
        """Yields a model, which stays loaded for the time of the block."""
        async with AsyncExitStack() as stack:
            yield await self.until(stack.enter_async_context(self.service.pool.lease(entry)))

    @property
    def seconds_left(self) -> float:
        """The time that is left, in seconds."""
        return max(0.0, self.deadline - time.monotonic())

    def store(self, size: int) -> None:
        """Counts bytes of an upload until the work is over. Raises RequestError where all uploads have too many."""
        service = self.service
        if service.stored + size > UPLOADS_STORED * service.options.max_upload_mb * 1_000_000:
            raise no_room()
        if not self._stored:
            self.held.callback(self._forget)
        self._stored += size
        service.stored += size

    def _forget(self) -> None:
        self.service.stored -= self._stored

    async def until(self, doing: Awaitable[Result], seconds: float = math.inf, *, gone_too: bool = True) -> Result:
        """Returns the result of something that the event loop does; it is given up where the work ends before that.

        Args:
            doing: What is awaited.
            seconds: The time after which it is given up as well.
            gone_too: Whether to look if the client has gone. A body that is being read tells that by itself.

        Raises:
            RequestError: The work has ended, and this is why.
            asyncio.TimeoutError: The seconds are over.
        """
        loop = asyncio.get_running_loop()
        task, ended = asyncio.ensure_future(doing), asyncio.Event()

        def end() -> None:
            loop.call_soon_threadsafe(ended.set)

        withdraw = self.job.on_cancel(end)
        others = [asyncio.ensure_future(ended.wait()), *([asyncio.ensure_future(self.gone())] if gone_too else [])]
        waited: set[asyncio.Future[Any]] = {task, *others}
        try:
            bound = min(seconds, self.seconds_left)
            await asyncio.wait(waited, timeout=bound, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone_too and others[-1].done():
                self.job.cancel(gone)
            elif not self.seconds_left:
                self.job.cancel(too_long)
            if self.job.cancelled:
                raise self.job.reason or gone()
            raise asyncio.TimeoutError
        finally:
            withdraw()
            for future in waited:
                future.cancel()
            await asyncio.wait(waited)
            del task, others, waited, future  # an error that is raised keeps the variables of this function

    async def run(self, function: Callable[[], Result]) -> Result:
        """Runs a function in a thread and returns its result.

        Where the client goes, the time is over, or the server stops, the job is cancelled: the function gets Cancelled
        from whatever it calls with the job. Raises the reason as a RequestError then, and else the function's error.
        """
        thread = self._start(function)
        gone_task = asyncio.ensure_future(self.gone())
        waited: set[asyncio.Future[Any]] = {thread, gone_task}
        try:
            await asyncio.wait(waited, timeout=self.seconds_left, return_when=asyncio.FIRST_COMPLETED)
            if not thread.done():
                self.job.cancel(gone if gone_task.done() else too_long)
                await asyncio.wait({thread})
            return self._outcome(thread)
        finally:
            gone_task.cancel()
            del thread, waited

    async def stream(
        self, function: Callable[[Callable[[Any], None]], None], idle: float = math.inf
    ) -> AsyncGenerator[Any, None]:
        """Runs a function in a thread and yields what it gives to the function that it is called with.

        It ends as `run` does; whoever iterates closes this when the client has gone. The function waits where too much
        of what it gave was not taken yet. idle: the seconds after which None is yielded where nothing came.
        """
        handover = Handover(self.job)
        thread = self._start(lambda: function(handover.give))
        thread.add_done_callback(lambda _: handover.end())
        try:
            while True:
                left = math.inf if self.job.cancelled else self.seconds_left
                bound = min(left, idle)
                try:
                    item = await handover.take(None if bound == math.inf else bound)
                except asyncio.TimeoutError:
                    if left <= idle:
                        self.job.cancel(too_long)
                    else:
                        yield None
                    continue
                if item is END:
                    break
                yield item
            self._outcome(thread)
        finally:
            if not thread.done():
                self.job.cancel(gone)
            del thread

    def _start(self, function: Callable[[], Result]) -> asyncio.Future[Result]:
        """Starts a function in a thread of the server."""
        thread = asyncio.get_running_loop().run_in_executor(self.service.threads, function)
        thread.add_done_callback(_look_at)
        self._thread = thread
        return thread

    def _outcome(self, thread: asyncio.Future[Result]) -> Result:
        """Returns the result of a thread that has ended, or raises its error or the reason for which it was cancelled.

        What is done before the cancellation reaches it is given nevertheless.
        """
        try:
            return thread.result()
        except Cancelled:
            raise self.job.reason or gone() from None
        finally:
            del thread

    async def close(self) -> None:
        """Ends the work, waits until its thread has ended, and closes what it needed."""
        if self._thread is not None and not self._thread.done():
            self.job.cancel(gone)
            while not self._thread.done():  # even where this task is cancelled itself: files are still in use
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({self._thread})
        self._thread = None  # its error keeps the variables of its functions, this work among them
        await self.held.aclose()


def _look_at(thread: asyncio.Future[Any]) -> None:
    """Takes note of the error of a thread: asyncio would log one that nobody asks for, as where a client has gone."""
    if not thread.cancelled():
        thread.exception()


class Service:
    """What all protocols of a server share.

    Attributes:
        options: The limits.
        pool: The models.
        metrics: What is counted and timed.
        turns: The queue of those that want to compute a window.
        stored: The bytes of all uploads that are kept now.
        threads: The threads in which the work is done, one for each request.
    """

    def __init__(self, options: ServeOptions, pool: ModelPool, metrics: Metrics) -> None:
        self.options = options
        self.pool = pool
        self.metrics = metrics
        self.turns = Turns(metrics.waiting.observe)
        self._decoding = {is_long: Turns() for is_long in (False, True)}
        self._decoders = DECODERS_PER_CORE * len(usable_cores())
        self.threads = ThreadPoolExecutor(options.max_requests, thread_name_prefix="request")
        self.stopping = False
        self.stored = 0
        self._works: set[Work] = set()
        metrics.running.set_function(lambda: len(self._works))
        metrics.queue.set_function(lambda: self.turns.waiting)

    @property
    def running(self) -> int:
        """The number of requests that are worked on or wait."""
        return len(self._works)

    def decoding(self, job: Job, is_long: bool) -> AbstractContextManager[None]:
        """Returns the context in which a file is decoded, in a process of its own, or speech is found in one.

        Long recordings, which take minutes, have places of their own, so that the short ones need not wait for them.
        """
        return self._decoding[is_long].take(job, "decoding", self._decoders)

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
            if (reason := work.job.reason) is not None:  # it is not raised
                self.metrics.cancelled.labels(reason.code).inc()

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
            work.job.cancel(stopping)

    def close(self) -> None:
        """Ends the threads. All requests have ended by then."""
        self.threads.shutdown(wait=True, cancel_futures=True)
