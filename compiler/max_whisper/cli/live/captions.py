"""Tells what a stream finds: on a terminal as it comes, and to a file or a pipe a line for each final text."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator

from max_whisper.cli.live.meter import Meter
from max_whisper.cli.live.screen import Screen
from max_whisper.cli.streams import OutputError, Stream, Streams
from max_whisper.runtime.decoding.ranking import compression_ratio
from max_whisper.runtime.results import Segment, Word
from max_whisper.runtime.streaming.events import StreamEvent

_MARKS_BEFORE = re.compile(r"^\s*([,.;:!?…]+(?=\s|$)|[，。、；：！？]+)")
"""Matches the marks at the beginning of a phrase that belong to the phrase before it, but not .5 or .NET."""


class Captions:
    """The texts of a stream as people or programs see them.

    Attributes:
        segments: The final texts, if something is written at the end; otherwise none is kept, as a session may be long.
        language: The code of the language that was found last; "" where none was.
        failure: Why a final text could not be written; what follows goes to the screen and the files alone.
    """

    def __init__(self, streams: Streams, *, to_stdout: bool, for_files: bool) -> None:
        """Shows nothing yet.

        Args:
            streams: Where the texts go.
            to_stdout: Whether final texts go to standard output, also where it is no terminal.
            for_files: Whether something is written at the end, for which all segments are kept.
        """
        self.segments: list[Segment] = []
        self.language = ""
        self.failure: OutputError | None = None
        self._streams = streams
        self._terminal = _terminal(streams)
        self._writes = to_stdout and self._terminal is not streams.stdout
        self._keeps = for_files
        self._unseen: list[Segment] = []  # the final texts that went neither to a terminal nor to standard output
        self._screen: Screen | None = None
        self._confirmed: list[Word] = []
        self._hypothesis: list[Word] = []
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
        """Keeps the words of a phrase whose final text will never come, as a segment without tokens."""
        words, self._confirmed, self._hypothesis = self._confirmed + self._hypothesis, [], []
        text = _joined(words)
        if text.strip():
            segment = Segment(
                seek=0,
                start=words[0].start,
                end=words[-1].end,
                text=text,
                tokens=[],
                temperature=0.0,
                avg_logprob=0.0,
                compression_ratio=compression_ratio(text),
                no_speech_prob=0.0,
                words=words,
            )
            self._keep(segment)

    def show_rest(self) -> None:
        """Shows the final texts that nobody has seen on standard error, if that is a terminal."""
        if self._streams.stderr.isatty():
            for segment in self._unseen:
                self._streams.show(_line(segment.text))
            self._unseen = []

    def _tell(self, event: StreamEvent) -> None:
        self.language = event.language or self.language
        if event.kind == "speech_started":
            self._speaking = True
        elif event.kind == "speech_stopped":
            self._speaking = False
        elif event.kind == "confirmed":
            self._confirmed += event.words
        elif event.kind == "hypothesis":
            self._hypothesis = event.words
        else:
            self._confirmed, self._hypothesis = [], []
            if event.segment is not None:
                self._keep(event.segment)

    def _keep(self, segment: Segment) -> None:
        """Writes the text of a segment, and keeps the segment as long as it is needed."""
        if self._keeps:
            self.segments.append(segment)
        if not self._write(_line(segment.text)):
            self._unseen.append(segment)

    def _write(self, text: str) -> bool:
        """Writes a text that stays, and returns whether somebody sees it; a terminal shows what a full disk refuses."""
        is_seen = False
        try:
            if self._screen is not None:
                self._screen.leave(text)
                is_seen = True
            if self._writes and self.failure is None:
                self._streams.write(f"{text}\n")
                is_seen = True
        except OutputError as error:
            self.failure = self.failure or error
        return is_seen

    def _draw(self) -> None:
        """Draws what is being said."""
        if self._screen is None or self.failure is not None:
            return
        state = "finishing" if self._finishing else "speaking" if self._speaking else "listening"
        confirmed, hypothesis = _begun(_joined(self._confirmed)), _joined(self._hypothesis)
        try:
            self._screen.show(confirmed, hypothesis if confirmed else _begun(hypothesis), state)
        except OutputError as error:
            self.failure = error


def _joined(words: Iterable[Word]) -> str:
    return "".join(word.word for word in words)


def _begun(text: str) -> str:
    """Returns the text of a phrase without the marks at its beginning that belong to the phrase before it."""
    return _MARKS_BEFORE.sub("", text)


def _line(text: str) -> str:
    """Returns the text of a phrase as a line of its own; marks alone stay."""
    return _begun(text).strip() or text.strip()


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
