"""What a run tells: how far it is, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from max_whisper.progress import Progress


@dataclass(frozen=True)
class BatchSummary:
    """What came of a run.

    Attributes:
        done: The recordings that were transcribed.
        skipped: Those that were done before, in this run or in an earlier one.
        failed: Those without a text, of this run and of earlier ones.
        unwritten: The recordings whose files with subtitles could not be written.
        left: Those that were not finished, because the run was stopped.
        audio_seconds: The seconds of sound that were transcribed.
        seconds: The seconds that it took.
        workers: The number of processes.
        out: The folder of the results.
        parts: The files that were written.
    """

    done: int
    skipped: int
    failed: int
    unwritten: int
    left: int
    audio_seconds: float
    seconds: float
    workers: int
    out: Path
    parts: list[Path]

    @property
    def rate(self) -> float:
        """The hours of sound that were transcribed in an hour."""
        return self.audio_seconds / self.seconds if self.seconds > 0 else 0.0


@dataclass
class Status:
    """How far a run is.

    Attributes:
        recordings: The number of recordings that are to be transcribed.
        done: The recordings of these that are transcribed.
        skipped: The recordings that were done before.
        failed: The recordings of these that cannot be transcribed.
        failed_before: The recordings that could not be transcribed in earlier runs.
        audio_seconds: The seconds of all recordings that are to be transcribed; of those that nobody has opened yet,
            as their headers or sizes say.
        done_seconds: The seconds of these that are done.
        resumed_seconds: The seconds of these that an earlier run has done.
        workers: The number of processes.
        started: Since when recordings are transcribed, by `time.monotonic`; None while there are none to transcribe.
        worked: The seconds for which recordings were transcribed before that.
    """

    recordings: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    failed_before: int = 0
    audio_seconds: float = 0.0
    done_seconds: float = 0.0
    resumed_seconds: float = 0.0
    workers: int = 0
    started: float | None = None
    worked: float = 0.0

    def begin(self) -> None:
        """Takes note that a recording is begun."""
        self.started = time.monotonic() if self.started is None else self.started

    def pause(self) -> None:
        """Takes note that there is nothing to do."""
        self.worked, self.started = self.elapsed, None

    @property
    def elapsed(self) -> float:
        """The seconds in which recordings were transcribed."""
        return self.worked + (0.0 if self.started is None else time.monotonic() - self.started)

    @property
    def rate(self) -> float:
        """The seconds of sound that are transcribed in a second."""
        return (self.done_seconds - self.resumed_seconds) / self.elapsed if self.elapsed else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The seconds until all is done, if it goes on like this; None where that is not known."""
        return max(0.0, self.audio_seconds - self.done_seconds) / self.rate if self.rate > 0 else None

    @property
    def progress(self) -> Progress:
        """The report of how far the run is."""
        done = f"{self.done + self.failed} of {self.recordings} recordings"
        hours = f"{self.done_seconds / 3600:.1f} of {self.audio_seconds / 3600:.1f} hours"
        failed = f", {self.failed} failed" if self.failed else ""
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        message = f"{done}, {hours}, {self.rate:.0f} x real time{left}{failed}"
        return Progress(message, self.done_seconds, self.audio_seconds, "seconds")


def duration(seconds: float) -> str:
    """Returns a duration for people: "45 s", "12 min", "3 h 20 min", "4 d 7 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
