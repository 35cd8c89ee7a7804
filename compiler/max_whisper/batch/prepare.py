"""Makes recordings ready for the workers, ahead of them: fetches those behind URLs, and finds their keys."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from max_whisper.batch.index import Known
from max_whisper.batch.inputs import remote
from max_whisper.batch.inputs.source import Source, local_source
from max_whisper.batch.keys import content_hash
from max_whisper.batch.rows import shown_path
from max_whisper.errors import Cancelled, MaxWhisperError, UserError
from max_whisper.runtime.output.files import write_error

THREADS = 4
"""The number of recordings that are fetched or hashed at the same time."""
LOOK = 0.1
"""The seconds between two looks at whether to stop, while a server says nothing."""
T = TypeVar("T")


@dataclass
class Job:
    """A recording that is to be transcribed.

    Attributes:
        number: Its number in this run.
        source: Where it is.
        seconds: How long it is, as far as that is known.
        done: The seconds of it that are done.
        resumed: The seconds of it that an earlier run has done.
        attempts: How often it was begun.
        content: The hash of its content; "" before it is known.
        key: Its key; "" before it is known.
        file: Its file here; None before it is there.
        error: Why it cannot be read; "" if it can.
    """

    number: int
    source: Source
    seconds: float
    done: float = 0.0
    resumed: float = 0.0
    attempts: int = 0
    content: str = ""
    key: str = ""
    file: Path | None = field(default=None)
    error: str = ""

    @property
    def name(self) -> str:
        """Its path or URL, as text that can be printed and kept."""
        return shown_path(self.source.place)

    @property
    def known(self) -> Known:
        """What the index keeps of it."""
        return Known(place_bytes(self.source), self.source.stamp, self.content, self.seconds)

    def give_up_file(self) -> None:
        """Removes the copy of a recording that was fetched."""
        if self.source.is_remote and self.file is not None:
            with contextlib.suppress(OSError):  # the next run removes it
                self.file.unlink()
        self.file = None


def place_bytes(source: Source) -> bytes:
    """Returns the path or URL of a recording as bytes."""
    return os.fsencode(source.place)


def unreadable_content(source: Source) -> str:
    """Returns what stands for the hash of the content of a recording that cannot be read."""
    return blake3(b"unreadable: " + place_bytes(source)).hexdigest()


class Preparer:
    """Threads that make jobs ready, each of which then has a content, and a file or an error."""

    def __init__(self, downloads: Path, stop: Callable[[], bool]) -> None:
        """Takes the folder for what is fetched, and a function that returns whether to stop."""
        self._downloads, self._stop = downloads, stop
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS)
        self._names = itertools.count()

    def submit(self, job: Job) -> Future[Job]:
        """Returns the future of a job that is ready, or has no content where it was to stop.

        It may raise MaxWhisperError, of the machine.
        """
        return self._threads.submit(self._prepare, job)

    def close(self) -> None:
        """Gives up what is not begun and what is being fetched, and waits for the rest."""
        self._closed = True
        self._threads.shutdown(cancel_futures=True)

    def _prepare(self, job: Job) -> Job:
        try:
            if job.source.is_remote:
                self._fetch(job)
            else:
                job.source = local_source(job.source.place, job.source.relative)
                job.file = Path(job.source.place)
            assert job.file is not None
            job.content = content_hash(job.file)
        except OSError as error:
            job.error = f"{job.name} cannot be read ({error.strerror or error}): check the file and its permissions"
        except UserError as error:  # AudioError among them
            job.error = str(error)
        except Cancelled:
            job.content = ""
            job.give_up_file()
        if job.error:
            job.give_up_file()
            job.content = unreadable_content(job.source)
        return job

    def _fetch(self, job: Job) -> None:
        def stop() -> bool:
            return self._closed or self._stop()

        if not job.source.stamp:
            job.source = _unless(stop, lambda: remote.examined(job.source))
        suffix = Path(job.source.relative).suffix[:10]  # a hint for the audio reader
        path = self._downloads / f"{next(self._names)}{suffix}"
        try:
            self._downloads.mkdir(exist_ok=True)
            job.file = path
            _unless(stop, lambda: remote.fetch(job.source.place, path, stop))
        except OSError as error:
            raise MaxWhisperError(str(write_error(path, error))) from error  # not of the recording


def is_changed(job: Job) -> bool:
    """Returns whether a file was changed after it was made ready."""
    source = job.source
    return not source.is_remote and local_source(source.place, source.relative).stamp != source.stamp


def _unless(stop: Callable[[], bool], work: Callable[[], T]) -> T:
    """Returns what a function returns, or raises what it raises, and Cancelled as soon as `stop` returns True.

    It runs in a thread that is then left alone: nothing ends the reading from a server that says nothing.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([result], LOOK).done:
        if stop():
            raise Cancelled
    return result.result()
