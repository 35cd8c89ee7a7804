"""A stream that is fed with the sound of a request: in turns among those who compute, and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from max_whisper.runtime.streaming.events import StreamEvent
from max_whisper.runtime.streaming.options import StreamKeywords
from max_whisper.runtime.streaming.stream import Stream
from max_whisper.serve.live.formats import SoundFormat
from max_whisper.serve.transcribing import Task

FED_SECONDS = 0.1
"""The sound that is fed at least, where more may come: each feeding is a turn."""
TURN_SECONDS = 5.0
"""The most sound of a turn: others have theirs between two."""


class FedStream:
    """The stream of a request, in whose thread its methods are called.

    Attributes:
        task: What it computes with.
        close: Withdraws it from what is cancelled with the request's work.
    """

    def __init__(self, task: Task, stream: Stream, format: SoundFormat) -> None:
        """Takes a stream. format: that of the sound."""
        self.task = task
        self._stream = stream
        self._format = format
        self._metrics = task.work.service.metrics
        self.close = task.work.job.on_cancel(stream.cancel)

    def feed(self, sound: bytes, came: float) -> Iterator[Sequence[StreamEvent]]:
        """Feeds sound, and yields what each turn finds. came: when the first of it came, by `time.monotonic`."""
        step = round(TURN_SECONDS * self._format.bytes_per_second)
        for first in range(0, len(sound), step):
            part = sound[first : first + step]
            found = self._compute(partial(self._stream.feed, self._format.chunk(part)))
            self._metrics.audio.labels(self.task.entry.name).inc(len(part) / self._format.bytes_per_second)
            yield found
        self._metrics.stream_lag.observe(time.monotonic() - came)

    def commit(self) -> Sequence[StreamEvent]:
        """Ends the phrase that is being said, and returns what that tells."""
        return self._compute(self._stream.commit)

    def finish(self) -> Sequence[StreamEvent]:
        """Takes no more sound, ends the phrase that is being said, and returns what that tells."""
        return self._compute(self._stream.finish)

    def _compute(self, function: Callable[[], Sequence[StreamEvent]]) -> Sequence[StreamEvent]:
        name = self.task.entry.name
        with self.task.turn():
            began = time.monotonic()
            try:
                found = function()
            finally:
                self._metrics.computing.labels(name).inc(time.monotonic() - began)
        for one in found:
            if one.segment is not None:
                self._metrics.tokens.labels(name).inc(len(one.segment.tokens))
        return found


def open_stream(task: Task, format: SoundFormat, options: StreamKeywords) -> FedStream:
    """Returns a new stream of a model. Raises UserError for options that cannot be had."""
    task.check_texts(options)
    return FedStream(task, task.model.stream(sample_rate=format.rate, **options), format)
