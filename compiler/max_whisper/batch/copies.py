"""Remembers recordings with the same content as another: they have one row, under the path that came first.

The others are lines of OUT/_copies.jsonl, with their path and the key of the row. Readers of a folder of Parquet files
leave out names that begin so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from max_whisper.batch.frames import write_all
from max_whisper.errors import MaxWhisperError
from max_whisper.runtime.output.files import write_error

COPIES = "_copies.jsonl"


class Copy(msgspec.Struct, frozen=True):
    """A recording whose row has the path of another one with the same content.

    Attributes:
        path: Where it was found.
        key: The key of the row.
    """

    path: str
    key: str


class Copies:
    """The recordings that are copies of others."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if it is there. Raises MaxWhisperError where it cannot be read."""
        self._path = path
        self._end = 0
        self._known: set[Copy] = {*self._read()}

    def add(self, path: str, key: str) -> None:
        """Adds a copy, unless it is there. Raises MaxWhisperError where it cannot be written."""
        copy = Copy(path, key)
        if copy in self._known:
            return
        line = msgspec.json.encode(copy) + b"\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                file.truncate(self._end)  # a line that was torn when a run was killed
                write_all(file.fileno(), line)
        except OSError as error:
            raise write_error(self._path, error) from error
        self._end += len(line)
        self._known.add(copy)

    def _read(self) -> Iterator[Copy]:
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    yield msgspec.json.decode(line, type=Copy)
                    self._end += len(line)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise MaxWhisperError(f"{self._path} cannot be read ({error}): put it back as it was") from error
