"""Draws on a terminal what is being said, with a level meter below it, and leaves final texts above."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment as Piece
from rich.text import Text

from max_whisper.cli.live.drawing import DrawingLock
from max_whisper.cli.live.meter import Meter
from max_whisper.cli.streams import OutputError, Stream, harmless

INTERVAL = 0.1
"""The seconds between two drawings of the meter."""
METER_WIDTH = 20
FEWEST_CELLS = 4
"""A narrower meter says nothing, and is left out."""
SHOWN_BEHIND = 1.0
"""The seconds from which on the meter says how far behind the text is."""
QUIET_SECONDS = 2.0
"""After these seconds without any sound, not even silence, the meter says so."""
MARGIN = 3
"""The columns that stay free behind the meter: terminals write ^C there."""
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
CLEAR_LINE, CLEAR_BELOW = "\x1b[2K", "\x1b[J"


@dataclass
class Shown:
    """What is drawn.

    Attributes:
        confirmed: The words of the phrase that stay.
        hypothesis: Those that may follow them.
        state: What is going on: "listening", "speaking" or "finishing".
    """

    confirmed: str = ""
    hypothesis: str = ""
    state: str = "listening"


class Screen:
    """The lowest lines of a terminal, which are drawn again and again; a context in which they are there.

    Each method may be called from any thread. What others write to the terminal meanwhile, they write in `hidden`.
    """

    def __init__(self, stream: Stream, meter: Meter, seconds: Callable[[], float], behind: Callable[[], float]) -> None:
        """Draws nothing yet.

        Args:
            stream: The terminal.
            meter: The loudness of the sound.
            seconds: Returns how much sound came in.
            behind: Returns how much of it has no text yet, in seconds.
        """
        self._stream, self._meter, self._seconds, self._behind = stream, meter, seconds, behind
        self._console = Console(file=None, markup=False, highlight=False, emoji=False)  # for the widths of characters
        self._colors = "NO_COLOR" not in os.environ
        self._shown = Shown()
        self._drawn: list[tuple[str, int]] = []  # the rows that are there, with their widths
        self._lock = DrawingLock()
        self._stoppable = contextlib.ExitStack()
        self._ended = threading.Event()
        self._painter = threading.Thread(target=self._paint, name="screen", daemon=True)

    def __enter__(self) -> Screen:
        self._stream.write(HIDE_CURSOR)
        self._stoppable.enter_context(self._lock.stoppable(self._give_back, self._take_back))
        self._painter.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self._ended.set()
        self._painter.join()
        self._stoppable.close()
        self._give_back()

    def show(self, confirmed: str, hypothesis: str, state: str) -> None:
        """Draws what is known of the phrase that is being said. state: as in `Shown`."""
        with self._lock:
            self._shown = Shown(confirmed, hypothesis, state)
            self._draw()

    def leave(self, text: str) -> None:
        """Writes the final text of a phrase, which stays; the next phrase is drawn below it."""
        with self._lock:
            self._shown = Shown(state=self._shown.state)
            rows = [self._ansi(row) for row in self._rows(Text(harmless(text)))]
            self._stream.write(self._erasing() + "".join(f"{row}\r\n" for row in rows))
            self._draw()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Takes the lines away for the time of a block that writes whole lines to the terminal."""
        with self._lock:
            self._stream.write(self._erasing())
            try:
                yield
            finally:
                self._draw()

    def _give_back(self) -> None:
        """Leaves the terminal as whoever writes to it next expects it."""
        with contextlib.suppress(OutputError):  # the terminal may be gone
            self._stream.write(self._erasing() + SHOW_CURSOR)

    def _take_back(self) -> None:
        """Goes on below what was written meanwhile; the painter draws the lines again."""
        with contextlib.suppress(OutputError):
            self._stream.write(HIDE_CURSOR)

    def _paint(self) -> None:
        with contextlib.suppress(OutputError):  # the thread that writes final texts meets it, too, and tells it
            while not self._ended.wait(INTERVAL):
                with self._lock:
                    self._draw()

    def _draw(self) -> None:
        """Draws all lines again, if anything has changed."""
        columns, height = self._size()
        phrase = Text(harmless(self._shown.confirmed)) + Text(harmless(self._shown.hypothesis), style="dim")
        phrase = phrase[len(phrase.plain) - len(phrase.plain.lstrip()) :]
        rows = [*self._rows(phrase)[-max(1, height - 1) :], self._meter_row(columns)]
        new = [(self._ansi(row), row.cell_len) for row in rows]
        if new != self._drawn:
            moved = self._moving()
            self._drawn = new
            self._stream.write(moved + "\r\n".join(CLEAR_LINE + row for row, _ in new) + CLEAR_BELOW)

    def _erasing(self) -> str:
        """Returns what takes the lines away, and leaves the cursor where they began."""
        moved = self._moving()
        self._drawn = []
        return moved + CLEAR_BELOW if moved else ""

    def _moving(self) -> str:
        """Returns what moves the cursor to where the lines begin. A terminal that became narrower has broken them."""
        if not self._drawn:
            return ""
        columns, _ = self._size()
        up = sum(max(1, -(-width // columns)) for _, width in self._drawn) - 1
        return "\r" + (f"\x1b[{up}A" if up else "")

    def _size(self) -> tuple[int, int]:
        """Returns the columns and rows of the terminal."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):  # it was closed meanwhile
            return 80, 24
        return size.columns or 80, size.lines or 24

    def _rows(self, text: Text) -> list[Text]:
        """Returns text in rows that fit into the terminal; none for no text."""
        if not text.plain.strip():
            return []
        rows = [*text.wrap(self._console, max(2, self._size()[0]))]
        for row in rows:
            row.rstrip()  # so that no space is copied
        return rows

    def _ansi(self, row: Text) -> str:
        """Returns a row with the codes of a terminal for its styles."""
        return "".join(self._styled(piece) for piece in row.render(self._console))

    def _styled(self, piece: Piece) -> str:
        style = piece.style
        if not style:
            return piece.text
        return (style if self._colors else style.without_color).render(piece.text, color_system=ColorSystem.STANDARD)

    def _meter_row(self, columns: int) -> Text:
        """Returns the line with the state, the level, the time and how far behind the text is."""
        state, behind, meter = self._shown.state, self._behind(), self._meter
        late = behind >= SHOWN_BEHIND
        if state == "listening" and not late and time.monotonic() - meter.heard > QUIET_SECONDS:
            state = "no sound comes in"
        mark = ("● ", "green") if state == "speaking" else ("○ ", "dim")
        front = Text.assemble(mark, (f"{state:9}", "dim"))
        room = max(1, columns - MARGIN)
        front.truncate(room)
        back = Text()
        for part in (
            Text(f"  {behind:.0f} s behind" if late else "", style="yellow"),
            Text(f"  {clock(self._seconds())}", style="dim"),
        ):
            if front.cell_len + back.cell_len + part.cell_len <= room:
                back = Text.assemble(part, back)
        cells = min(METER_WIDTH, room - front.cell_len - back.cell_len - 2)
        if cells >= FEWEST_CELLS:
            full = round(meter.level * cells)
            front.append("  " + "━" * full, "red" if meter.clipped else "green")
            front.append("─" * (cells - full), "dim")
        return front + back


def clock(seconds: float) -> str:
    """Returns a time as people read it on a clock: 0:07, or 1:00:07."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
