"""Admits requests, of which there are only so many, and has what they share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

from max_whisper.artifact.cores import usable_cores
from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import Job, stopping
from max_whisper.serve.live.places import Places
from max_whisper.serve.metrics import Metrics
from max_whisper.serve.options import ServeOptions
from max_whisper.serve.pool import ModelPool
from max_whisper.serve.raw_sound import SAMPLE_BYTES
from max_whisper.serve.room import Room
from max_whisper.serve.turns import Turns

RETRY_SECONDS = 2
"""The seconds after which a client that was refused may ask again."""

DECODERS_PER_CORE = 2
"""The short recordings that are decoded at once, and as many long ones besides."""
LARGEST_KEPT = 8
"""All uploads together may have as many bytes as this number of the largest ones; so may all decoded sound."""


class Service:
    """What all protocols of a server share.

    Attributes:
        options: The limits.
        pool: The models.
        metrics: What is counted and timed.
        turns: The queue of those that want to compute a window.
        places: The places for live streams.
        uploads: The room for what clients send.
        decoded: The room for decoded sound: an hour of silence is a few bytes of an upload, and then 115 MB.
        threads: The threads in which the work is done, one for each request.
    """

    def __init__(self, options: ServeOptions, pool: ModelPool, metrics: Metrics) -> None:
        self.options = options
        self.pool = pool
        self.metrics = metrics
        self.turns = Turns(metrics.waiting.observe)
        self.places = Places(options.max_streams, metrics)
        self._decoding = {is_long: Turns() for is_long in (False, True)}
        self._decoders = DECODERS_PER_CORE * len(usable_cores())
        self.threads = ThreadPoolExecutor(options.max_requests, thread_name_prefix="request")
        self.stopping = False
        largest = options.max_upload_mb * 1_000_000
        self.uploads = Room(LARGEST_KEPT * largest)
        longest = int(options.max_audio_seconds * SAMPLE_RATE * SAMPLE_BYTES)
        self.decoded = Room(LARGEST_KEPT * max(largest, longest))
        self._jobs: set[Job] = set()
        metrics.running.set_function(lambda: len(self._jobs))
        metrics.queue.set_function(lambda: self.turns.waiting)

    @property
    def running(self) -> int:
        """The number of requests that are worked on or wait."""
        return len(self._jobs)

    def decoding(self, job: Job, is_long: bool) -> AbstractContextManager[None]:
        """Returns the context in which a file is decoded, in a process of its own, or speech is found in one.

        Long recordings, which take minutes, have places of their own, so that the short ones need not wait for them.
        """
        return self._decoding[is_long].take(job, "decoding", self._decoders)

    @contextmanager
    def place(self, name: str) -> Iterator[Job]:
        """Yields the job for a request, which counts against the limit until the block ends.

        name: what the log calls the request. Raises RequestError where there are too many requests (429), or the server
        is stopping (503).
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
        job = Job(name)
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)
            if (reason := job.reason) is not None:  # it is not raised
                self.metrics.cancelled.labels(reason.code).inc()

    def _refusal(self, error: RequestError) -> RequestError:
        self.metrics.refused.labels(error.code).inc()
        return error

    async def stop(self) -> None:
        """Lets running requests end for some seconds, and cancels the others; new ones are refused from now on."""
        self.stopping = True
        deadline = time.monotonic() + self.options.stop_seconds
        while self._jobs and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for job in self._jobs:
            job.cancel(stopping)

    def close(self) -> None:
        """Ends the threads. All requests have ended by then."""
        self.threads.shutdown(wait=True, cancel_futures=True)
