"""csv: a table with a header, and commas between its cells, which may have quotation marks around them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from max_whisper.batch.inputs.manifest import Listed, cell, column_of, lines, register
from max_whisper.errors import UserError


@register(".csv")
def comma(file: BinaryIO, name: str) -> Iterator[Listed]:
    """Yields what the column of the recordings names."""
    places = [f"{name}:1"]  # of the last line that was read

    def texts() -> Iterator[str]:
        for place, line in lines(file, name):
            places[:] = [place]
            yield f"{line}\n"

    rows = csv.reader(texts(), strict=True)
    try:
        header = next(rows, [""])
        column = column_of(places[0], header)
        for cells in rows:
            yield cell(places[0], cells, len(header), column)
    except csv.Error as error:
        raise UserError(f"{places[0]}: {error}; expected cells with commas between them") from error
