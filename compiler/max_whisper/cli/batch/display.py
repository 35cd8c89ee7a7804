"""Shows how a batch goes: a bar on a terminal, a line now and then elsewhere, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from max_whisper.batch.summary import BatchSummary, Status, duration
from max_whisper.cli.streams import Bar, Streams

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

INTERVAL = 60.0
"""The seconds between two lines where there is no terminal."""
_BAR = 12


class Display:
    """Tells a terminal, or a log, how a run goes."""

    def __init__(self, streams: Streams, bar: Bar) -> None:
        """Takes the streams of the command and the bar of `streams.progress(columns)`."""
        self._streams = streams
        self._bar = bar
        self._task = bar.add_task("", total=None, told="starting")
        self._next = time.monotonic() + INTERVAL

    def examined(self, done: int, total: int) -> None:
        """Shows how many headers were read."""
        self._bar.update(self._task, completed=done, total=total, told=f"{done} of {total} headers read")

    def progress(self, status: Status) -> None:
        """Shows how far the run is."""
        if status.started is None:
            loading = status.recordings and not status.elapsed
            told = "loading the model" if loading else "waiting for recordings"
            self._bar.update(self._task, completed=0, total=None, told=told)
            return
        self._bar.update(
            self._task, completed=status.done_seconds, total=max(status.audio_seconds, 1.0), told=short(status)
        )
        if not self._streams.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL
            self._streams.say(f"[{duration(status.elapsed)}] {status.progress.message}")

    def failed(self, error: str) -> None:
        """Says why a recording or a file has no text."""
        self._streams.say(f"error: {error}")

    def say(self, message: str) -> None:
        """Says anything else, before the recordings are begun."""
        self._bar.update(self._task, completed=0, total=None, told="one moment")
        self._streams.say(message)


def columns() -> Sequence[ProgressColumn]:
    """Returns the columns of the bar, which fit into 80 characters."""
    from rich.progress import BarColumn, TextColumn

    return BarColumn(_BAR), TextColumn("{task.fields[told]}", markup=False)


def short(status: Status) -> str:
    """Returns how far a run is in few words: "1.2 of 40.5 h, 55 x real time, 43 min left, 2 failed"."""
    parts = [f"{amount(status.done_seconds, status.audio_seconds)}, {status.rate:.0f} x real time"]
    if status.seconds_left is not None:
        parts.append(f"{duration(status.seconds_left)} left")
    if failed := status.failed + status.failed_before:
        parts.append(f"{failed} failed")
    return ", ".join(parts)


def amount(done: float, total: float) -> str:
    """Returns two amounts of sound in one unit: "3.0 of 12.5 h"; in minutes where there is less than an hour."""
    unit, name = (3600, "h") if total >= 3600 else (60, "min")
    digits = 1 if total / unit < 100 else 0
    return f"{done / unit:.{digits}f} of {total / unit:.{digits}f} {name}"


def report(summary: BatchSummary) -> Iterator[str]:
    """Yields lines that say what came of a run."""
    hours = f"{duration(summary.audio_seconds)} of audio in {duration(summary.seconds)}"
    speed = f"{summary.rate:.0f} audio hours per machine hour"
    workers = "1 worker" if summary.workers == 1 else f"{summary.workers} workers"
    if summary.done or summary.audio_seconds:
        yield f"{_recordings(summary.done)} transcribed: {hours}, {speed} ({workers})"
    if summary.skipped:
        yield f"{_recordings(summary.skipped)} had a text already: done before, or the content of another"
    if summary.left:
        yield f"{_recordings(summary.left)} left: the same command goes on with them"
    if summary.parts:
        first, *_, last = [part.name for part in summary.parts] * 2
        yield f"{summary.out}: {first}" + (f" to {last}" if len(summary.parts) > 1 else "")
    else:
        yield f"{summary.out}: nothing new"


def _recordings(number: int) -> str:
    return "1 recording" if number == 1 else f"{number} recordings"
