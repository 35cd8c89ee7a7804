"""Tables of foreign names, and where they go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import rich.table
from rich.console import Console
from rich.text import Text

from max_whisper.messages import printable

WIDTH = 180  # columns, where the output is a file or a pipe and not a terminal


class Table(rich.table.Table):
    """Shows texts as they are: what looks like rich's markup is none, and no terminal obeys them."""

    def __init__(self, *headers: str, title: str, show_header: bool = True) -> None:
        super().__init__(*headers, title=Text(printable(title)), show_header=show_header)

    def add_row(self, *cells: str | Sequence[str], **options: Any) -> None:  # type: ignore[override]
        """Adds a cell for each column: a line, or several."""
        lines = [[cell] if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*(Text("\n".join(map(printable, cell))) for cell in lines), **options)


def table_console() -> Console:
    """Stdout, wide enough for our tables where it has no width of its own."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else WIDTH)
