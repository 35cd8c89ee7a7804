"""Keeps the rows of finished recordings so that none is lost and none is there twice, however a run ends.

A part begins as a journal, to which each row is appended as a line of JSON. When it is full, or when the run ends, the
part is written from it in its format, takes its name, and the journal is removed:

    OUT/.batch/part-00007.jsonl  ->  OUT/.batch/part-00007.parquet.tmp  ->  OUT/part-00007.parquet

A journal beside a part of its number is one that was to be removed. A last line that is torn is cut off: its recording
is transcribed again. What was written outlives this process; the last moments before a power cut may be lost, and are
then transcribed again.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from max_whisper.batch.frames import write_all
from max_whisper.batch.options import Format, Rows
from max_whisper.batch.parts import FORMATS, UNREADABLE, Entry, damaged, put
from max_whisper.batch.rows import Row
from max_whisper.errors import UserError
from max_whisper.runtime.output.files import write_error

MAX_BYTES = 64 << 20
"""The bytes of a journal that is full: a thousand hours of speech."""
MAX_ROWS = 20_000
"""The rows of a journal that is full."""


@dataclass(frozen=True)
class Done:
    """A row that is there.

    Attributes:
        path: Where its recording was found.
        failed: Whether it has an error in place of a text.
        part: The number of its part.
    """

    path: str
    failed: bool
    part: int


class Journal:
    """The rows of an archive: those in parts, and those that will be.

    Attributes:
        published: The parts that were written in this run.
        changed: When the last row was added, by `time.monotonic`.
    """

    def __init__(self, out: Path, state: Path, format: Format, rows: Rows) -> None:
        """Takes up what earlier runs have left.

        Args:
            out: The folder of the parts.
            state: The folder of the journals, on the same file system.
            format: The format of the parts.
            rows: What a row is about.

        Raises:
            MaxWhisperError: A part or a journal cannot be read or written.
        """
        self._out, self._state, self._format, self._rows = out, state, format, rows
        self._done: dict[str, Done] = {}
        self._descriptor: int | None = None
        self._bytes = self._lines = 0
        self.published: list[Path] = []
        self.changed = 0.0
        for temporary in _numbered(state, f"{format}.tmp").values():
            _remove(temporary)
        parts = _numbered(out, format)
        for number, path in parts.items():
            self._note(number, self._entries(path))
        journals = _numbered(state, "jsonl")
        for number, path in journals.items():
            if number in parts:
                _remove(path)
        left = sorted(journals.keys() - parts.keys())
        self._number = left[-1] if left else 1 + max(parts, default=0)
        end = 0
        for number in left:
            entries, end = _cut(journals[number])
            self._note(number, entries)
        for number in left[:-1]:
            self._put_journal(number)
        if left:
            self._lines = sum(done.part == self._number for done in self._done.values())
            self._bytes = end

    @property
    def done(self) -> Mapping[str, Done]:
        """The rows that are there, by their keys."""
        return self._done

    @property
    def waiting(self) -> int:
        """The number of rows that are in no part yet."""
        return self._lines

    def add(self, row: bytes) -> None:
        """Adds the row of a recording, as JSON, whose key is new. Raises MaxWhisperError where it cannot be written."""
        entry = msgspec.json.decode(row, type=Entry)
        assert entry.key not in self._done
        path = self._journal(self._number)
        try:
            if self._descriptor is None:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            write_all(self._descriptor, row + b"\n")
        except OSError as error:
            if self._descriptor is not None:
                with contextlib.suppress(OSError):  # the next run cuts it off
                    os.ftruncate(self._descriptor, self._bytes)
            raise write_error(path, error) from error
        self._note(self._number, [entry])
        self.changed = time.monotonic()
        self._bytes += len(row) + 1
        self._lines += 1
        if self._bytes >= MAX_BYTES or self._lines >= MAX_ROWS:
            self.publish()

    def publish(self) -> None:
        """Writes the rows that are in no part yet as a part. Raises MaxWhisperError where that cannot be written."""
        if not self._lines:
            return
        self.close()
        self._put_journal(self._number)
        self._number += 1
        self._bytes = self._lines = 0

    def rows(self, keys: Mapping[str, object]) -> Iterator[Row]:
        """Yields the rows of some recordings that are there. Raises MaxWhisperError where a part cannot be read."""
        for number in sorted({self._done[key].part for key in keys}):
            if number == self._number:
                read = _rows_in(self._journal(number), "jsonl", "recording")
            else:
                read = _rows_in(self._part(number), self._format, self._rows)
            yield from (row for row in read if row["key"] in keys)

    def forget(self, keys: set[str]) -> None:
        """Removes rows, whose recordings will be transcribed again. Raises MaxWhisperError where that fails."""
        self.publish()
        for number in sorted({self._done[key].part for key in keys}):
            path = self._part(number)
            kept = {key: done for key, done in self._done.items() if done.part == number and key not in keys}
            if kept:
                self._put(number, self.rows(kept))
            else:
                _remove(path)
        for key in keys:
            del self._done[key]

    def close(self) -> None:
        """Closes the journal, which the next run takes up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _note(self, number: int, entries: Iterator[Entry] | list[Entry]) -> None:
        for entry in entries:
            self._done[entry.key] = Done(entry.path, entry.error is not None, number)

    def _entries(self, path: Path) -> Iterator[Entry]:
        try:
            yield from FORMATS[self._format].entries(path)
        except UNREADABLE as error:
            raise damaged(path, error) from error

    def _put_journal(self, number: int) -> None:
        """Writes the part of a journal, and removes the journal."""
        journal = self._journal(number)
        self._put(number, _rows_in(journal, "jsonl", "recording"))
        _remove(journal)
        self.published.append(self._part(number))

    def _put(self, number: int, rows: Iterator[Row]) -> None:
        path = self._part(number)
        put(path, self._state / f"{path.name}.tmp", self._format, rows, self._rows)

    def _journal(self, number: int) -> Path:
        return self._state / f"part-{number:05}.jsonl"

    def _part(self, number: int) -> Path:
        return self._out / f"part-{number:05}.{self._format}"


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """Returns the parts or journals in a folder by their numbers, in order.

    Raises MaxWhisperError for a folder that cannot be read: without its parts, new ones would take their places.
    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 (Path.glob takes a folder that cannot be read for an empty one)
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): change its permissions") from error
    matches = map(re.compile(rf"part-(\d{{5,9}})\.{re.escape(suffix)}").fullmatch, names)
    return {int(match[1]): folder / match[0] for match in matches if match is not None}


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be removed ({error.strerror}): change its permissions") from error


def _rows_in(path: Path, format: Format, rows: Rows) -> Iterator[Row]:
    """Yields the rows of recordings in a part or a journal. Raises MaxWhisperError where it cannot be read."""
    try:
        yield from FORMATS[format].read(path, rows)
    except UNREADABLE as error:
        raise damaged(path, error) from error


def _cut(journal: Path) -> tuple[list[Entry], int]:
    """Returns the entries of a journal and their bytes, and cuts off what is behind the last line that is whole."""
    entries: list[Entry] = []
    end = 0
    try:
        with journal.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                entries.append(msgspec.json.decode(line, type=Entry))
                end += len(line)
    except ValueError:  # of a power cut
        pass
    except OSError as error:
        raise UserError(f"{journal} cannot be read ({error.strerror}): change its permissions") from error
    try:
        os.truncate(journal, end)
    except OSError as error:
        raise write_error(journal, error) from error
    return entries, end
