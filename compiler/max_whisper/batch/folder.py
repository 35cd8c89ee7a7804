"""The folder of the results, which one run at a time writes to, and in it the folder of what a run remembers.

OUT/part-00001.parquet ...   the rows
OUT/_copies.jsonl            recordings that have the same content as another
OUT/subtitles/               files for players, if they are asked for
OUT/.batch/                  what runs remember: journals, windows, hashes of recordings
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from max_whisper.batch.options import BatchOptions
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.output.files import write_error

STATE = ".batch"
DOWNLOADS = "downloads"


class _Kind(msgspec.Struct, frozen=True):
    """What kind of results a folder has, which all runs that write to it must share."""

    format: str
    rows: str


@contextlib.contextmanager
def locked(out: Path, options: BatchOptions) -> Iterator[Path]:
    """Makes the folder of the results, keeps other runs from it, and yields the folder of the state.

    Raises UserError where another run writes to it, where it has results of another kind, or cannot be written to.
    """
    state = out / STATE
    try:
        state.mkdir(parents=True, exist_ok=True)
        for folder in (out, state):  # parts are written at the end, which would be late to find that out
            tempfile.TemporaryFile(dir=folder).close()
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--out {out}: there is a file in its place; give a folder for the results") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--out {out}: {reason}; give a folder that can be written to") from error
    try:
        _take(lock, out)
        _check_kind(state / "kind.json", out, _Kind(options.format, options.rows))
        shutil.rmtree(state / DOWNLOADS, ignore_errors=True)
        yield state
    finally:
        os.close(lock)


def _take(lock: int, out: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"--out {out}: another run writes to it; wait for its end, or give another folder") from error
    except OSError as error:
        raise MaxWhisperError(
            f"--out {out}: its file system cannot lock files ({error.strerror}), so that nothing keeps two runs apart; "
            "give a folder on another one"
        ) from error


def _check_kind(path: Path, out: Path, kind: _Kind) -> None:
    try:
        there = msgspec.json.decode(path.read_bytes(), type=_Kind)
    except (FileNotFoundError, ValueError):  # the first run, or one that was killed while it wrote the file
        try:
            path.write_bytes(msgspec.json.encode(kind))
        except OSError as error:
            raise write_error(path, error) from error
        return
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): change its permissions") from error
    if there != kind:
        raise UserError(
            f"--out {out}: it has results of --format {there.format} --rows {there.rows}, to which those of --format "
            f"{kind.format} --rows {kind.rows} cannot be added; give the same, or another folder"
        )
