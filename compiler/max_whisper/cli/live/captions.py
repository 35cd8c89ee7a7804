"""Tells what a stream finds: on a terminal as it comes, and to a file or a pipe a line for each final text."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator

from max_whisper.cli.live.meter import Meter
from max_whisper.cli.live.screen import Screen
from max_whisper.cli.streams import OutputError, Stream, Streams
from max_whisper.runtime.output.formats.txt import plain_text
from max_whisper.runtime.results import Segment
from max_whisper.runtime.streaming.events import StreamEvent


class Captions:
    """The texts of a stream as people or programs see them.

    Attributes:
        segments: The final texts so far.
        language: The code of the language of the last one; "" where none is known.
        failure: Why a final text could not be written; those that follow are kept in `segments` alone.
    """

    def __init__(self, streams: Streams, *, to_stdout: bool) -> None:
        """Shows nothing yet. to_stdout: whether final texts go to standard output, also where it is no terminal."""
        self.segments: list[Segment] = []
        self.language = ""
        self.failure: OutputError | None = None
        self._streams = streams
        self._terminal = _terminal(streams)
        self._writes = to_stdout and self._terminal is not streams.stdout
        self._written = 0  # the final texts that standard output has
        self._screen: Screen | None = None
        self._confirmed = self._hypothesis = ""
        self._speaking = self._finishing = False

    @contextlib.contextmanager
    def shown(self, meter: Meter, seconds: Callable[[], float], behind: Callable[[], float]) -> Iterator[None]:
        """Draws on the terminal, if there is one, for the time of a block; the arguments are those of `Screen`."""
        if self._terminal is None:
            yield
            return
        with Screen(self._terminal, meter, seconds, behind) as screen, self._streams.above(screen.hidden):
            self._screen = screen
            try:
                yield
            finally:
                self._screen = None

    def tell(self, events: Iterable[StreamEvent]) -> None:
        """Shows some events."""
        for event in events:
            self._tell(event)
        self._draw()

    def finish(self) -> None:
        """Says on the terminal that no more sound is heard."""
        self._finishing = True
        self._draw()

    def keep_unfinished(self) -> None:
        """Writes the words of a phrase whose final text will never come."""
        text, self._confirmed, self._hypothesis = self._confirmed + self._hypothesis, "", ""
        if text.strip():
            self._write(text)

    def show_rest(self) -> None:
        """Shows the texts that standard output did not take on standard error, if nothing shows them yet."""
        if self._streams.stderr.isatty() and self._terminal is not self._streams.stderr:
            for line in plain_text(self.segments[self._written :]).splitlines():
                self._streams.show(line)

    def _tell(self, event: StreamEvent) -> None:
        if event.kind == "speech_started":
            self._speaking = True
        elif event.kind == "speech_stopped":
            self._speaking = False
        elif event.kind == "confirmed":
            self._confirmed += event.text
        elif event.kind == "hypothesis":
            self._hypothesis = event.text
        else:
            self._confirmed = self._hypothesis = ""
            self.language = event.language or self.language
            if event.segment is not None:
                self.segments.append(event.segment)
                self._write(event.segment.text)
                self._written += self.failure is None

    def _write(self, text: str) -> None:
        """Writes a text that stays."""
        if self.failure is not None:
            return
        try:
            if self._screen is not None:
                self._screen.leave(text.strip())
            if self._writes:
                self._streams.write(f"{text.strip()}\n")
        except OutputError as error:
            self.failure = error

    def _draw(self) -> None:
        """Draws what is being said."""
        if self._screen is None or self.failure is not None:
            return
        state = "finishing" if self._finishing else "speaking" if self._speaking else "listening"
        try:
            self._screen.show(self._confirmed, self._hypothesis, state)
        except OutputError as error:
            self.failure = error


def _terminal(streams: Streams) -> Stream | None:
    """Returns the stream on which is drawn what is being said; None where there is no terminal for it.

    Standard error is one for that while standard output is a file. The reader of a pipe, such as tee, may write to the
    same terminal.
    """
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return None
    if streams.stdout.isatty():
        return streams.stdout
    return streams.stderr if streams.stderr.isatty() and _is_file(streams.stdout) else None


def _is_file(stream: Stream) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:  # it was closed, or is a buffer in memory
        return False
    return stat.S_ISREG(mode) or stat.S_ISCHR(mode)  # the latter is /dev/null
