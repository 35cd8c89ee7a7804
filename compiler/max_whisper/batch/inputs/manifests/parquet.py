"""parquet: a table of which one column is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from max_whisper.batch.inputs.manifest import Listed, column_of, listed, register
from max_whisper.errors import UserError

ROWS = 1000
"""The rows that are read at once: a small file may hold a long text that many rows share."""


@register(".parquet")
def parquet(file: BinaryIO, name: str) -> Iterator[Listed]:
    """Yields what the column of the recordings names."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(
            f"{name}: Parquet files need the package pyarrow: pip install 'max-whisper[batch]' ({error})"
        ) from error
    try:
        with parquet.ParquetFile(file) as table:
            names = table.schema_arrow.names
            column = names[column_of(name, names)]
            row = 0
            for batch in table.iter_batches(ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    row += 1
                    place = f"{name}, row {row}"
                    if not isinstance(value, str | None):
                        raise UserError(f"{place}: expected text in the column {column}, got a {type(value).__name__}")
                    yield listed(place, value or "")
    except (OSError, ValueError, ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{name} cannot be read as Parquet ({reason}): make it again") from error
