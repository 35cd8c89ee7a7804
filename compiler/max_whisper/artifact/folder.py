"""Writes a folder so that it is there completely or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from max_whisper.artifact.manifest import MANIFEST_FILE
from max_whisper.errors import MaxWhisperError, UserError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@contextmanager
def new_folder(folder: Path, *, replace: bool) -> Iterator[Path]:
    """Yields an empty folder beside `folder`, which takes its place if the block succeeds and is removed if not.

    The new folder is locked (flock) while it is being written. Folders that killed builds have left behind are no
    longer locked, which is how they are found, and removed; that works between containers, too, which do not see each
    other's processes. On a file system without such locks (NFS) they stay, because nobody can tell whether they are
    still being written.

    Args:
        folder: The place of the finished folder.
        replace: Whether a folder that is there already may be replaced; it must be an artifact, or empty.

    Raises:
        UserError: There is something at that place already, or it cannot be written to.
        MaxWhisperError: The disk failed.
    """
    made: list[Path] = []
    try:
        _check_place(folder, replace)
        place = folder.resolve()  # where `folder` is a link, its target is replaced, and the link stays
        made = [parent for parent in place.parents if not parent.exists()]
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place)
        new, lock = _make_locked(place)
    except (OSError, RuntimeError, ValueError) as e:  # links in a circle, until Python 3.13; a name with NUL
        _remove_empty(made)
        reason = e.strerror if isinstance(e, OSError) else e
        raise UserError(f"{folder}: cannot be written ({reason}); choose another place with --out") from e
    try:
        yield new
        _sync(new)
        _put(new, place, folder, replace)
    except OSError as e:
        raise MaxWhisperError(f"{folder}: writing failed ({e.strerror or e}); nothing was changed") from e
    finally:
        shutil.rmtree(new, ignore_errors=True)
        os.close(lock)
        _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    """Removes the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _check_place(folder: Path, replace: bool) -> None:
    """Raises UserError where there is something that may not be replaced."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder to write to, choose another place with --out")
    if not replace:
        raise UserError(f"{folder} is there already: give --force to replace it, or another place with --out")
    if any(folder.iterdir()) and not (folder / MANIFEST_FILE).exists():
        raise UserError(
            f"{folder} has files but is no artifact, so --force does not replace it: choose another place with --out"
        )


def _make_locked(place: Path) -> tuple[Path, int]:
    """Makes a folder beside `place`, and returns it with the descriptor that holds its lock, if locks work there."""
    while True:
        new = place.with_name(f".{place.name}.new-{secrets.token_hex(8)}")
        new.mkdir()
        with contextlib.suppress(FileNotFoundError):  # another build removed it before it was locked
            lock = _open(new)
            if _lock(lock) is not Lock.HELD and new.exists():
                return new, lock
            os.close(lock)


def _remove_abandoned(place: Path) -> None:
    """Removes the folders that killed builds have left beside `place`."""
    for path in place.parent.iterdir():
        if not path.name.startswith(f".{place.name}.new-") or path.is_symlink() or not path.is_dir():
            continue
        with contextlib.suppress(OSError):  # another build is removing it, or it is another user's
            lock = _open(path)
            try:
                if _lock(lock) is Lock.TAKEN:
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


class Lock(Enum):
    """The result of trying to lock a folder."""

    TAKEN = "this process has the lock"
    HELD = "another process has the lock"
    NONE = "the file system cannot lock folders"


def _lock(descriptor: int) -> Lock:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.HELD
    except OSError:
        return Lock.NONE
    return Lock.TAKEN


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _put(new: Path, place: Path, folder: Path, replace: bool) -> None:
    """Moves a new folder to its place; an old one is moved to where the new one was.

    The place is checked again, because something may have been put there during the build.
    """
    _check_place(folder, replace)
    try:
        new.rename(place)  # works where there is nothing, or an empty folder
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _check_place(folder, replace)
        _exchange(new, place)


def _sync(folder: Path) -> None:
    """Writes the files of a folder to the disk, so that a power cut cannot leave an empty file under a final name."""
    for path in [*folder.iterdir(), folder]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _exchange(new: Path, old: Path) -> None:
    """Swaps two folders: in one step where the system can (Linux), else in two."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE) == 0:
            return
    aside = new.with_name(f"{new.name}-old")
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)
