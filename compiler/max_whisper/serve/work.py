"""The work for one request: it runs functions in threads, and ends them when nobody waits for their results."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from max_whisper.errors import Cancelled
from max_whisper.runtime.model import Model
from max_whisper.serve.handover import END, Handover
from max_whisper.serve.jobs import Job, gone, too_long
from max_whisper.serve.pool import Entry
from max_whisper.serve.room import Share
from max_whisper.serve.service import Service

Result = TypeVar("Result")
Gone = Callable[[], Awaitable[None]]
"""Returns when the client has closed its connection."""


@dataclass(eq=False)
class Work:
    """A request that was admitted: what its handler works with.

    Attributes:
        service: The server that it belongs to.
        job: What is cancelled when nobody waits for the answer any more.
        gone: Waits until the client has closed its connection.
        deadline: When its time is over, by `time.monotonic`.
        held: Closes what the work needs (files, leases of models) after its thread has ended.
        uploaded: The bytes that its client has sent.
        decoded: The bytes of its decoded sound.
    """

    service: Service
    job: Job
    gone: Gone
    deadline: float
    held: AsyncExitStack = field(default_factory=AsyncExitStack)
    _thread: asyncio.Future[Any] | None = None

    def __post_init__(self) -> None:
        self.uploaded = Share(self.service.uploads)
        self.decoded = Share(self.service.decoded)

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
        try:
            await self.held.aclose()
        finally:
            for share in (self.uploaded, self.decoded):
                share.give_back()


def _look_at(thread: asyncio.Future[Any]) -> None:
    """Takes note of the error of a thread: asyncio would log one that nobody asks for, as where a client has gone."""
    if not thread.cancelled():
        thread.exception()


@asynccontextmanager
async def admitted(service: Service, name: str, gone: Gone) -> AsyncIterator[Work]:
    """Yields the work for a request, which counts against the limit until the block ends and its thread has ended.

    Args:
        service: The server.
        name: What the log calls the request.
        gone: Waits until the client has closed its connection.

    Raises:
        RequestError: There are too many requests (429), or the server is stopping (503).
    """
    with service.place(name) as job:
        work = Work(service, job, gone, time.monotonic() + service.options.max_request_seconds)
        try:
            yield work
        finally:
            await work.close()
