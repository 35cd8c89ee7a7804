"""Shows on standard error that a long command is at work, and the reports of its progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from max_whisper.cli.group import current
from max_whisper.messages import printable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from max_whisper.progress import OnProgress


@contextlib.contextmanager
def reporting(title: str) -> Iterator[OnProgress]:
    """Shows a title with the time that has passed, and yields a function that prints the reports of progress."""
    started = time.monotonic()
    streams = current().streams
    with streams.progress(_columns) as bar:
        bar.add_task(printable(title))
        yield lambda progress: streams.say(f"[{time.monotonic() - started:6.1f} s] {progress.message}")


def _columns() -> Sequence[ProgressColumn]:
    from rich.progress import TextColumn, TimeElapsedColumn

    return TextColumn("{task.description} ...", markup=False), TimeElapsedColumn()
