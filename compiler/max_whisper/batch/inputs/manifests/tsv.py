"""tsv: a table with a header, and tabs between its cells, which have no quotation marks around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from max_whisper.batch.inputs.manifest import Listed, cell, column_of, lines, register


@register(".tsv")
def tsv(file: BinaryIO, name: str) -> Iterator[Listed]:
    """Yields what the column of the recordings names."""
    rows = ((place, line.split("\t")) for place, line in lines(file, name))
    place, header = next(rows, (f"{name}:1", [""]))
    column = column_of(place, header)
    for place, cells in rows:
        yield cell(place, cells, len(header), column)
