"""A folder that is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from max_whisper.artifact.manifest import FILE
from max_whisper.errors import MaxWhisperError, UserError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextmanager
def new_folder(folder: Path, *, replace: bool) -> Iterator[Path]:
    """Gives an empty folder beside `folder`, which takes its place when the block ends well and vanishes otherwise.

    replace: whether a folder that is there already may be replaced; it must be an artifact, or empty.
    Raises UserError where the place is taken or cannot be written, MaxWhisperError where the disk fails.
    """
    made: list[Path] = []
    try:
        _check_place(folder, replace)
        place = folder.resolve()  # a link stays one, what it leads to is replaced
        new = place.with_name(f".{place.name}.new-{os.getpid()}")
        made = [parent for parent in place.parents if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place)
        new.mkdir()
    except (OSError, RuntimeError) as e:  # RuntimeError: links in a circle, until Python 3.13
        _remove_empty(made)
        reason = getattr(e, "strerror", e)
        raise UserError(f"{folder}: cannot be written ({reason}); choose another place with --out") from e
    try:
        yield new
        _sync(new)
        _check_place(folder, replace)  # another build may have been faster
        if place.exists():
            _exchange(new, place)
        else:
            new.rename(place)
    except OSError as e:
        raise MaxWhisperError(f"{folder}: writing failed ({e.strerror or e}); nothing was changed") from e
    finally:
        shutil.rmtree(new, ignore_errors=True)
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Those that hold something stay."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_place(folder: Path, replace: bool) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder to write to, choose another place with --out")
    if not replace:
        raise UserError(f"{folder} is there already: give --force to replace it, or another place with --out")
    if any(folder.iterdir()) and not (folder / FILE).exists():
        raise UserError(f"{folder} holds something that is no artifact, which --force does not replace: choose another")


def _remove_abandoned(folder: Path) -> None:
    """What builds that were killed have left behind."""
    for path in folder.parent.iterdir():
        process = re.fullmatch(rf"\.{re.escape(folder.name)}\.new-(\d+)", path.name)
        if process and not Path(f"/proc/{process[1]}").exists() and Path("/proc/self").exists():
            shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Everything is on the disk before its name is: a power cut must not leave an empty file under a good name."""
    for path in [*folder.iterdir(), folder]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _exchange(new: Path, old: Path) -> None:
    """Swaps two folders in one step where the system can (Linux), else in two."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE) == 0:
            return
    aside = new.with_name(f"{new.name}-old")
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)
