"""Feeds the sound of a source to a stream until it ends, or somebody ends it, and then writes the files."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from max_whisper.cli.interrupts import Interrupts
from max_whisper.cli.live.captions import Captions
from max_whisper.cli.live.meter import Meter
from max_whisper.cli.live.screen import clock
from max_whisper.cli.live.sources import Source
from max_whisper.cli.outputs import Texts
from max_whisper.cli.streams import OutputError, ReaderGone, Streams
from max_whisper.errors import MaxWhisperError
from max_whisper.runtime.results import TranscriptionResult
from max_whisper.runtime.streaming.backlog import SoundQueue, Taken

if TYPE_CHECKING:
    from max_whisper.runtime.streaming.stream import Stream

WAIT_SECONDS = 0.1
"""The longest time for which no signal is heeded while no sound comes in."""


class Session:
    """The transcription of one source, which is run once."""

    def __init__(self, stream: Stream, source: Source, captions: Captions, streams: Streams) -> None:
        """Takes a new stream and a source that was not started yet."""
        self._stream, self._source, self._captions, self._streams = stream, source, captions, streams
        self._queue = SoundQueue(source.sample_rate)
        self._overflowed = False  # whether that was said

    def run(self, texts: Texts | None, interrupts: Interrupts) -> None:
        """Transcribes until the sound ends or a signal comes, and writes the files, if there are any.

        Ctrl-C is how a source ends that has no other end; for any other, `Interrupted` is raised when all is written.

        Args:
            texts: Writes the files.
            interrupts: Those of the command.

        Raises:
            MaxWhisperError: Something failed. What was recognized until then was written, as far as that was possible.
        """
        meter = Meter(self._source.sample_rate)
        with interrupts.held():  # an interrupt in the middle would lose what is found
            with self._captions.shown(meter, lambda: self._queue.seconds, self._behind):
                failures = [self._hear(meter, interrupts)]
                ended = self._queue.ended  # what it has got is still taken
                failures += [self._finish(), self._captions.failure]
            stopped = interrupts.take()
            failure = next(filter(None, failures), None)
            if self._captions.failure is not None and not (stopped is None and isinstance(failure, ReaderGone)):
                self._captions.show_rest()
            if texts is not None:
                unwritten = self._write(texts, whole=ended and failure is None)
                failure = failure or unwritten
        if stopped is None or (self._source.endless and stopped.signal == signal.SIGINT):
            if failure is not None:
                raise failure
            return
        if isinstance(failure, MaxWhisperError) and not isinstance(failure, ReaderGone):
            self._streams.say(f"error: {failure}")
        raise stopped

    def _behind(self) -> float:
        """Returns how much of the sound that came in has no text yet, in seconds."""
        return max(0.0, self._queue.seconds - self._stream.seconds)

    def _hear(self, meter: Meter, interrupts: Interrupts) -> Exception | None:
        """Feeds the stream until no sound comes, a signal does, or something fails, which is returned."""
        try:
            self._source.start(self._queue, meter.hear)
            if self._source.endless:
                self._streams.say(f"listening to {self._source.name}; Ctrl-C ends it")
            ended = False
            while not (ended or interrupts.waiting or self._captions.failure):
                ended = self._feed(self._queue.take(WAIT_SECONDS))
        except Exception as error:
            return error
        return None

    def _finish(self) -> Exception | None:
        """Takes what was heard before the end, ends the last phrase, and returns what went wrong."""
        self._captions.finish()
        try:
            self._source.stop()
            self._queue.end()
            while not self._feed(self._queue.take()):
                pass
            self._captions.tell(self._stream.finish())
        except Exception as error:
            with contextlib.suppress(Exception):
                self._captions.tell(self._stream.told())
                self._captions.keep_unfinished()
            return error
        return self._source.error

    def _feed(self, taken: Taken) -> bool:
        """Feeds the stream, shows what that tells, and returns whether no more sound comes."""
        for loss in taken.lost:
            self._streams.warn(
                f"{loss.seconds:.1f} s of sound were left out at {clock(loss.at)}: the computer is too slow for this "
                "model"
            )
        if self._source.overflowed and not self._overflowed:
            self._overflowed = True
            self._streams.warn(
                "the sound card has lost some sound: the computer was too busy, or this program was stopped"
            )
        if len(taken.samples):
            self._captions.tell(self._stream.feed(taken.samples))
        return taken.ended

    def _write(self, texts: Texts, *, whole: bool) -> Exception | None:
        """Writes the files, and returns what went wrong. whole: whether the sound was heard to its end."""
        captions = self._captions
        if not whole and not captions.segments:  # a file of an earlier run may be there
            return None
        if not whole and not self._source.endless:
            heard = f"{self._stream.seconds:.0f} s of it were heard"
            self._streams.warn(f"the text of {self._source.name} is incomplete: {heard}")
        text = "".join(segment.text for segment in captions.segments)
        language = self._stream.language or captions.language
        result = TranscriptionResult(text, captions.segments, language, [], self._stream.seconds)
        try:
            texts.finish(0, result, whole or self._source.endless)
        except Exception as error:
            if isinstance(error, OutputError) and not isinstance(error, ReaderGone):
                captions.show_rest()
            return error
        return None
