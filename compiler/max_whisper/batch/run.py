"""Transcribes the recordings of a run: hands them to the workers, the longest first, and takes what these tell."""

from __future__ import annotations

import heapq
import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Protocol

from max_whisper.batch.archive import Archive
from max_whisper.batch.inputs.source import Source
from max_whisper.batch.pool import Pool
from max_whisper.batch.prepare import Job, Preparer, is_changed, unreadable_content
from max_whisper.batch.protocol import Died, Ended, Heard, OfRecording, Opened, Refused, Stopped, Task
from max_whisper.batch.summary import Status

ATTEMPTS = 2
"""How often a recording is begun whose worker dies, or which is changed meanwhile."""
AHEAD = 4
"""The number of recordings that are made ready before a worker can begin them."""
WAIT = 0.2
"""The longest time in seconds without a look at whether to stop."""
SOON = 0.01
"""That time while a worker waits for a recording that is being made ready."""


class Observer(Protocol):
    """Whoever wants to know how a run goes."""

    def examined(self, done: int, total: int) -> None:
        """Is told how many headers were read, from any thread."""
        ...

    def progress(self, status: Status) -> None:
        """Is told how far the run is, several times a second."""
        ...

    def failed(self, error: str) -> None:
        """Is told why a recording or a file has no text; the sentence names it."""
        ...

    def say(self, message: str) -> None:
        """Is told anything else that a user should know."""
        ...


class Run:
    """The recordings of a run, on their way through the workers.

    Attributes:
        status: How far it is.
    """

    def __init__(
        self, archive: Archive, pool: Pool, preparer: Preparer, observer: Observer, status: Status, retry_failed: bool
    ) -> None:
        """Takes the parts that work for it; `add` gives it recordings."""
        self.status = status
        self._archive, self._pool, self._preparer, self._observer = archive, pool, preparer, observer
        self._retry_failed = retry_failed
        self._numbers = 0
        self._queue: list[tuple[float, int, Job]] = []  # a heap, the longest first
        self._preparing: list[Future[Job]] = []
        self._ready: list[tuple[float, int, Job]] = []  # another: a short one is made ready sooner
        self._running: dict[int, Job] = {}
        self._followers: dict[str, list[Job]] = defaultdict(list)  # by key, jobs that wait for the row of another
        self._stopping = False

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._queue or self._preparing or self._ready or self._running)

    @property
    def left(self) -> int:
        """The number of recordings that are not finished."""
        waiting = sum(map(len, self._followers.values()))
        return len(self._queue) + len(self._preparing) + len(self._ready) + len(self._running) + waiting

    def add(self, sources: Iterable[tuple[Source, float]]) -> None:
        """Adds recordings, each with its seconds."""
        for source, seconds in sources:
            self._enqueue(Job(self._numbers, source, seconds))
            self._numbers += 1
            self.status.recordings += 1
            self.status.audio_seconds += seconds

    def step(self) -> None:
        """Does what can be done now, and waits a moment. Raises MaxWhisperError where the run cannot go on."""
        if not self._stopping:
            self._begin_ready()
            self._prepare_ahead()  # behind it, so that the wait is short where something is being made ready
        soon = self._preparing and self._pool.free and not self._stopping
        for message in self._pool.poll(SOON if soon else WAIT):
            assert isinstance(message, OfRecording)
            self._take(self._running[message.number], message)
        self._observer.progress(self.status)
        if self.is_idle:
            self.status.pause()

    def stop(self) -> bool:
        """Lets the workers end their windows, and returns whether all have."""
        if not self._stopping:
            self._stopping = True
            self._pool.stop()
        return not self._running

    def _enqueue(self, job: Job) -> None:
        heapq.heappush(self._queue, (-job.seconds, job.number, job))

    def _prepare_ahead(self) -> None:
        while self._queue and len(self._preparing) + len(self._ready) < self._pool.free + AHEAD:
            self._preparing.append(self._preparer.submit(heapq.heappop(self._queue)[2]))

    def _begin_ready(self) -> None:
        for future in [future for future in self._preparing if future.done()]:
            self._preparing.remove(future)
            job = future.result()
            if not job.content:  # it was to stop
                self._enqueue(job)
                continue
            job.key = self._archive.key(job.content)
            heapq.heappush(self._ready, (-job.seconds, job.number, job))
        while self._ready and self._pool.free:
            self._begin(heapq.heappop(self._ready)[2])

    def _begin(self, job: Job) -> None:
        """Gives a recording to a worker, unless its row is there or comes."""
        if not job.error:
            self._archive.note_content(job)
        if self._retry_failed:
            self._archive.retry([job.key])
        done = self._archive.find(job.key)
        if done is not None:
            self._archive.note_copy(job.source, job.key)
            self._archive.write_files_again(job)
            self._leave_out(job, failed=done.failed)
        elif job.error:
            self._fail(job, job.error)
        elif any(other.key == job.key for other in self._running.values()):
            self._followers[job.key].append(job)
            job.give_up_file()
        else:
            job.attempts += 1
            self._running[job.number] = job
            windows = self._archive.checkpoints.begin(job.key)
            self.status.begin()
            assert job.file is not None
            self._pool.begin(
                Task(
                    job.number,
                    os.fsencode(job.file),
                    job.name,
                    job.key,
                    b"" if windows is None else os.fsencode(windows),
                )
            )

    def _take(self, job: Job, message: OfRecording) -> None:
        """Takes what a worker tells of a recording."""
        if isinstance(message, Opened):
            self._opened(job, message)
        elif isinstance(message, Heard):
            self._archive.checkpoints.add(job.key, message.window)
            self._advance(job, message.done)
        else:
            del self._running[job.number]
            self._archive.checkpoints.leave(job.key)
            if isinstance(message, Ended):
                self._end(job, message.row)
            elif isinstance(message, Refused):
                self._fail(job, message.error)
            elif isinstance(message, Stopped) or self._stopping:
                self._enqueue(job)  # it counts as left
            elif job.attempts < ATTEMPTS:
                heapq.heappush(self._ready, (-job.seconds, job.number, job))
            else:
                assert isinstance(message, Died)
                self._fail(
                    job, f"{job.name}: the process that transcribed it ended {ATTEMPTS} times ({message.reason})"
                )

    def _opened(self, job: Job, message: Opened) -> None:
        self.status.audio_seconds += message.seconds - job.seconds
        job.seconds = message.seconds
        if not message.resumed:
            self._archive.checkpoints.remove(job.key)
        elif job.attempts == 1:
            self.status.resumed_seconds += message.done
        self._advance(job, message.done)

    def _advance(self, job: Job, done: float) -> None:
        self.status.done_seconds += done - job.done
        job.done = done

    def _end(self, job: Job, row: bytes) -> None:
        if is_changed(job):
            self._archive.checkpoints.remove(job.key)
            self._advance(job, 0.0)
            for follower in self._followers.pop(job.key, []):  # what they wait for will have another key
                self._enqueue(follower)
            if job.attempts < ATTEMPTS:
                self._enqueue(job)
            else:
                job.key = self._archive.key(unreadable_content(job.source))
                self._fail(
                    job, f"{job.name} was changed while it was transcribed, {ATTEMPTS} times: wait until it is done"
                )
            return
        followers = self._followers.pop(job.key, [])
        self._archive.add(job, row, followers)
        self._advance(job, job.seconds)
        self.status.done += 1
        job.give_up_file()
        for follower in followers:
            self._leave_out(follower, failed=False)

    def _fail(self, job: Job, error: str) -> None:
        followers = self._followers.pop(job.key, [])
        self._archive.add_failed(job, error, followers)
        self._observer.failed(error)
        self.status.failed += 1
        self.status.audio_seconds -= job.seconds - job.done
        job.give_up_file()
        for follower in followers:
            self._leave_out(follower, failed=True)

    def _leave_out(self, job: Job, failed: bool) -> None:
        """Counts a recording whose row is there."""
        self.status.recordings -= 1
        self.status.audio_seconds -= job.seconds
        self.status.failed_before += failed
        self.status.skipped += not failed
        job.give_up_file()
