"""Where tables go."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 180  # columns, where the output is a file or a pipe and not a terminal


def table_console() -> Console:
    """Stdout, wide enough for our tables where it has no width of its own."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
