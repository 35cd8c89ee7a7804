"""Reads the lists of recordings that people and programs write, and keeps the registry of their kinds.

A kind is one file in `manifests/` with one function, which yields the path or URL of each recording, and where it says
so:

    @register(".txt")
    def text(file: BinaryIO, name: str) -> Iterator[Listed]: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple, TypeAlias

from max_whisper.errors import UserError
from max_whisper.messages import suggestion
from max_whisper.registry import import_modules

COLUMNS = ("path", "file", "url")
"""The names that the column of the recordings may have."""
LONGEST_LINE = 1 << 20


class Listed(NamedTuple):
    """A recording that a manifest lists.

    Attributes:
        place: Where it says so, for messages: `list.tsv:3`.
        path: The path or the URL.
    """

    place: str
    path: str


Reader: TypeAlias = "Callable[[BinaryIO, str], Iterator[Listed]]"
"""Yields the recordings of a manifest, of which it gets the open file, and the name for messages."""

_readers: dict[str, Reader] = {}


def register(suffix: str) -> Callable[[Reader], Reader]:
    """Returns a decorator that registers a function as the reader of files with a suffix."""

    def add(reader: Reader) -> Reader:
        if suffix in _readers:
            raise ValueError(f"two readers of {suffix}: {_readers[suffix]} and {reader}")
        _readers[suffix] = reader
        return reader

    return add


def readers() -> Mapping[str, Reader]:
    """Returns the readers of all kinds of manifests, by their suffixes."""
    import_modules("max_whisper.batch.inputs.manifests")
    return _readers


def reader_of(name: str) -> Reader | None:
    """Returns the reader of a manifest, by its name; None for what is none."""
    return readers().get(os.path.splitext(name)[1].lower())  # noqa: PTH122


def lines(file: BinaryIO, name: str) -> Iterator[tuple[str, str]]:
    """Yields the place and the text of each line that is not empty.

    Bytes that are no UTF-8 are kept, as Python keeps them in names of files. Raises UserError for a line without end.
    """
    number = 0
    while data := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(data) > LONGEST_LINE:
            raise UserError(
                f"{name}:{number}: the line has more than {LONGEST_LINE} bytes, expected a recording a line"
            )
        text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf") if number == 1 else data).rstrip("\r\n")
        if text.strip():
            yield f"{name}:{number}", text


def column_of(place: str, header: Sequence[str]) -> int:
    """Returns which column of a table has the recordings. Raises UserError where that cannot be said."""
    found = [index for index, cell in enumerate(header) if cell.strip().lower() in COLUMNS]
    if len(found) == 1:
        return found[0]
    if found:
        named = ", ".join(header[index] for index in found)
        raise UserError(f"{place}: each of the columns {named} may have the recordings: rename all but one")
    hint = next(filter(None, (suggestion(column, header) for column in COLUMNS)), "")
    raise UserError(f"{place}: the header has no column path, file or url{hint or '; it needs one of them'}")


def cell(place: str, cells: Sequence[str], width: int, column: int) -> Listed:
    """Returns the recording of a line of a table. Raises UserError for a line that does not fit the header."""
    if len(cells) != width:
        raise UserError(f"{place}: expected {width} cells, as the header has, got {len(cells)}")
    return listed(place, cells[column].strip())


def listed(place: str, path: str) -> Listed:
    """Returns the recording that a manifest names. Raises UserError for an empty name."""
    if not path:
        raise UserError(f"{place}: it names no recording; give a path or a URL, or remove the line")
    if "\0" in path:
        raise UserError(f"{place}: the name has a NUL in it, which no file has; correct it")
    return Listed(place, path)
