"""A terminal that understands what `max-whisper live` writes, so that tests see what people see."""

from __future__ import annotations

import re

from rich.cells import cell_len

CODE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Emulator:
    """The rows of a terminal, with those that were scrolled away.

    Attributes:
        cursor_shown: Whether the cursor is shown.
        dim: All text that was written dim.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: list[list[str]] = [[]]
        self._y = self._x = 0
        self._dim = False
        self.dim = ""
        self.cursor_shown = True

    @property
    def rows(self) -> list[str]:
        """The rows that hold anything."""
        return [row for row in ("".join(cells).rstrip() for cells in self._rows) if row]

    def write(self, text: str) -> None:
        """Obeys codes, and shows the rest."""
        position = 0
        while position < len(text):
            if (code := CODE.match(text, position)) is not None:
                self._obey(code[1] + code[3], code[2])
                position = code.end()
                continue
            assert text[position] != "\x1b", text[position : position + 10]
            self._put(text[position])
            position += 1

    def _obey(self, code: str, number: str) -> None:
        if code == "m":
            self._dim = number == "2"
        elif code == "A":
            assert self._y >= int(number), "the cursor goes above the first row"
            self._y -= int(number)
        elif code == "K" and number == "2":
            self._rows[self._y] = []
        elif code == "J":
            self._rows[self._y] = self._rows[self._y][: self._x]
            del self._rows[self._y + 1 :]
        elif code in ("?l", "?h") and number == "25":
            self.cursor_shown = code == "?h"
        else:
            raise AssertionError(f"an unknown code: {number}{code}")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._x = 0
        elif character == "\n":
            self._x, self._y = 0, self._y + 1
            if self._y == len(self._rows):
                self._rows.append([])
        else:
            width = cell_len(character)
            if self._x + width > self._columns:
                self._put("\n")
            row = self._rows[self._y]
            row += " " * (self._x + width - len(row))
            row[self._x : self._x + width] = [character, *[""] * (width - 1)]
            self._x += width
            self.dim += character if self._dim else ""
