"""Writes and reads the parts of results: files of rows, in the formats that tables are kept in.

A format is a class with three methods, and a line in FORMATS.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from max_whisper.batch.options import Format, Rows
from max_whisper.batch.rows import Row, recording_rows, schema, segment_rows
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.output.files import write_error

_AT_ONCE: dict[Rows, int] = {"recording": 500, "segment": 20_000}
"""The rows that are in memory at a time while a part is written: what segments share is repeated in each."""

UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""What reading a damaged part raises."""


class Entry(msgspec.Struct, frozen=True):
    """What a run must know of a row that is there.

    Attributes:
        path: Where its recording was found.
        key: Its key.
        error: Why it has no text; None where it has.
    """

    path: str
    key: str
    error: str | None


class PartFormat(Protocol):
    """A format of parts."""

    def write(self, path: Path, recordings: Iterable[Row], rows: Rows) -> None:
        """Writes the rows of recordings to a new file. Raises OSError, or ValueError for rows that it cannot hold."""
        ...

    def entries(self, path: Path) -> Iterator[Entry]:
        """Yields an entry for each row of a file. Raises OSError or ValueError."""
        ...

    def read(self, path: Path, rows: Rows) -> Iterator[Row]:
        """Yields the rows of recordings in a file. Raises OSError or ValueError."""
        ...


class _Jsonl:
    def write(self, path: Path, recordings: Iterable[Row], rows: Rows) -> None:
        with path.open("wb") as file:
            for row in recordings:
                file.writelines(msgspec.json.encode(one) + b"\n" for one in _as(rows, row))

    def entries(self, path: Path) -> Iterator[Entry]:
        decode = msgspec.json.Decoder(Entry).decode
        with path.open("rb") as file:
            yield from map(decode, file)

    def read(self, path: Path, rows: Rows) -> Iterator[Row]:
        with path.open("rb") as file:
            yield from _recordings(map(msgspec.json.decode, file), rows)


class _Parquet:
    def write(self, path: Path, recordings: Iterable[Row], rows: Rows) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        written = schema(rows)
        waiting = (one for row in recordings for one in _as(rows, row))
        with _arrow_errors(), parquet.ParquetWriter(path, written, compression="zstd") as file:
            while some := [*itertools.islice(waiting, _AT_ONCE[rows])]:
                file.write_table(pa.Table.from_pylist(some, schema=written))

    def entries(self, path: Path) -> Iterator[Entry]:
        from pyarrow import parquet

        with _arrow_errors(), parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["path", "key", "error"]):
                columns = (batch.column(name).to_pylist() for name in ("path", "key", "error"))
                yield from itertools.starmap(Entry, zip(*columns, strict=True))

    def read(self, path: Path, rows: Rows) -> Iterator[Row]:
        from pyarrow import parquet

        with _arrow_errors(), parquet.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=_AT_ONCE["recording"])
            yield from _recordings((row for batch in batches for row in batch.to_pylist()), rows)


@contextlib.contextmanager
def _arrow_errors() -> Iterator[None]:
    """Makes the errors of pyarrow a ValueError, but for those of files: not all of them are errors that Python has."""
    from pyarrow import ArrowException

    try:
        yield
    except ArrowException as error:
        raise ValueError(str(error) or type(error).__name__) from error


FORMATS: dict[Format, PartFormat] = {"parquet": _Parquet(), "jsonl": _Jsonl()}
"""The formats, by the suffixes of their files."""


def check_format(format: Format) -> None:
    """Raises UserError where a library that a format needs is not installed."""
    if format == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"Parquet files need the package pyarrow: pip install 'max-whisper[batch]', or ask for jsonl ({error})"
            ) from error


def damaged(path: Path, error: Exception) -> MaxWhisperError:
    """Returns the error about a part that cannot be read."""
    return MaxWhisperError(
        f"{path} cannot be read ({_reason(error)}): put it back as it was, or move it away to transcribe again what it "
        "holds"
    )


def put(path: Path, temporary: Path, format: Format, recordings: Iterable[Row], rows: Rows) -> None:
    """Writes a part so that it is there completely or not at all, also after a power cut.

    Raises MaxWhisperError where it cannot be written, and those of `recordings`.
    """
    try:
        FORMATS[format].write(temporary, recordings, rows)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    except ValueError as error:
        raise MaxWhisperError(
            f"{path} cannot be written as {format} ({_reason(error)}): its rows are kept where they were; free memory "
            "and run it again, or give another folder and --format jsonl"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the next run removes it
            temporary.unlink()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as(rows: Rows, row: Row) -> list[Row]:
    return [row] if rows == "recording" else segment_rows(row)


def _recordings(rows: Iterator[Row], kind: Rows) -> Iterator[Row]:
    if kind == "recording":
        yield from rows
    else:
        for _, segments in itertools.groupby(rows, key=lambda row: row["key"]):
            yield from recording_rows(segments)
