"""Several recordings at once, whose windows share the batches of the model."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from max_whisper.errors import MaxWhisperError
from max_whisper.runtime.results import Window
from max_whisper.runtime.transcription.driver import drive
from max_whisper.runtime.transcription.opening import Audio
from max_whisper.runtime.transcription.requests import Steps
from max_whisper.runtime.transcription.scheduler import Caller, Scheduler
from max_whisper.runtime.transcription.transcriber import Transcriber


@dataclass(frozen=True)
class BatchEvent:
    """Something that happened to one recording of a batch.

    Attributes:
        index: The index of the recording, from 0.
        kind: "opening" before the recording is read, "opened" after that, "window" when a window is done, "ended" after
            the last window, "failed" where an error ended the recording.
        transcriber: The transcriber of the recording, with all windows that are done; None until the recording is
            "opened", and where it could not be read.
        window: The window that is done, where the kind is "window".
        error: What went wrong, where the kind is "failed".
    """

    index: int
    kind: Literal["opening", "opened", "window", "ended", "failed"]
    transcriber: Transcriber | None = None
    window: Window | None = None
    error: MaxWhisperError | None = None


class BatchTranscriber:
    """Goes through several recordings, as many at once as the model has rows in a batch.

    Iterate over it for each `BatchEvent` as it comes. A recording that fails does not keep the others from being
    transcribed. Each gives the same text as it does alone. A recording is read when its turn comes, and its memory is
    freed after its last event unless the caller keeps its transcriber.
    """

    def __init__(
        self, scheduler: Scheduler, open: Callable[[Audio, Caller], Transcriber], recordings: Sequence[Audio]
    ) -> None:
        """Prepares a batch; `Model.batch` makes it. open: returns the transcriber of a recording."""
        self._scheduler = scheduler
        self._open = open
        self._recordings = recordings
        self._callers = [Caller() for _ in recordings]

    def cancel(self, index: int) -> None:
        """Stops one recording, which then fails with Cancelled. May be called from any thread."""
        self._scheduler.cancel(self._callers[index])

    def __iter__(self) -> Iterator[BatchEvent]:
        recordings: list[tuple[Caller, Steps[Window | BatchEvent]]]
        recordings = [(caller, self._recording(index)) for index, caller in enumerate(self._callers)]
        opened: dict[int, Transcriber] = {}
        items: Iterator[tuple[int, Window | BatchEvent | None]]
        items = drive(self._scheduler, recordings, self._scheduler.batch)
        for index, item in items:
            if isinstance(item, Window):
                yield BatchEvent(index, "window", opened[index], item)
            elif item is not None:
                if item.transcriber is not None:
                    opened[index] = item.transcriber
                if item.kind in ("ended", "failed"):
                    opened.pop(index, None)
                yield item

    def _recording(self, index: int) -> Steps[Window | BatchEvent]:
        """Yields the requests, the windows and the other events of one recording."""
        transcriber = None
        yield BatchEvent(index, "opening")
        try:
            transcriber = self._open(self._recordings[index], self._callers[index])
            yield BatchEvent(index, "opened", transcriber)
            # Iterating over a transcriber decodes the clips of its recording together, where no other shares the batch.
            yield from (transcriber if len(self._recordings) == 1 else transcriber.steps())
            yield BatchEvent(index, "ended", transcriber)
        except MaxWhisperError as error:
            _clear_frames(error)
            failed = BatchEvent(index, "failed", transcriber, error=error)
            transcriber = None  # the traceback keeps this variable
            yield failed
            del failed  # for the same reason


def _clear_frames(error: BaseException) -> None:
    """Clears the variables in the tracebacks of an error and its causes: callers keep errors, and so the sound."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
