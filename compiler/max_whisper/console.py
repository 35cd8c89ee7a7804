"""Prints tables, whose cells may be untrusted text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

from max_whisper.messages import printable

WIDTH = 180
"""The columns of the output where it is a file or a pipe and not a terminal."""


class Table(rich.table.Table):
    """A table that shows its cells as they are: rich's markup has no effect, and control characters are escaped.

    It is used like rich's class of the same name.
    """

    def __init__(self, *headers: str, title: str, show_header: bool = True) -> None:
        super().__init__(*headers, title=Text(printable(title)), show_header=show_header)

    def add_row(self, *cells: str | Sequence[str] | Text, **options: Any) -> None:  # type: ignore[override]
        """Adds a row with a cell for each column.

        A cell is a line, a sequence of lines, or text with styles, all of which must be printable.
        """
        super().add_row(*map(_text, cells), **options)


def _text(cell: str | Sequence[str] | Text) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text("\n".join(map(printable, [cell] if isinstance(cell, str) else cell)))


def table_console() -> Console:
    """Returns a console for stdout: as wide as the terminal or, for a file or a pipe, as wide as our tables need."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDTH)
