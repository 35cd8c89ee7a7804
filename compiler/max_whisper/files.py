"""Reads files that others made: only regular files, and only up to a size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from max_whisper.errors import UserError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def expanded(path: str | os.PathLike[str]) -> Path:
    """Returns a path with the user's home in place of `~`; `~name` of an unknown user stays, as in a shell.

    Raises UserError for a value that is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"expected a path as text or os.PathLike, got {type(path).__name__}")
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for users that do not exist


def is_there(path: Path) -> bool:
    """Returns whether there is a file of any kind, or a link, even to nothing, at this path.

    A path that cannot be examined counts as there, so that reading it says why; one that no file can have does not.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as e:
        return e.errno != errno.ENAMETOOLONG
    return True


def is_folder(path: Path) -> bool:
    """Returns whether `path` is a folder or a link to one; never raises."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for a path that it may not examine


def is_regular(path: Path) -> bool:
    """Returns whether `path` is a regular file or a link to one; never raises."""
    return os.path.isfile(path)  # noqa: PTH113 - as above


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file, or a link to one, for reading in binary.

    Other kinds of files are refused before they are opened: a pipe would wait for a writer, and opening a device can
    have effects. Raises OSError, whose `strerror` says which kind of file it is.
    """
    try:
        _check_regular(path.stat())
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError as e:  # a NUL in the name
        raise OSError(errno.EINVAL, str(e)) from e
    except FileNotFoundError as e:
        if path.is_symlink():
            raise OSError(errno.ENOENT, f"it is a link to {path.readlink()}, which is not there") from e
        raise
    try:
        _check_regular(os.fstat(file))  # it may have been replaced since
        return os.fdopen(file, "rb")
    except BaseException:
        os.close(file)
        raise


def read_start(path: Path, size: int) -> bytes:
    """Returns the first `size` bytes of a regular file, or all of a shorter one; raises as `open_regular` does."""
    with open_regular(path) as file:
        data = file.read(size)
    if data is None:  # a file of /proc that waits for an event
        raise OSError(errno.EAGAIN, "it has nothing to read")
    return data


def read_all(path: Path, limit: int) -> bytes:
    """Returns the content of a regular file; raises OSError as `open_regular` does, and for more than `limit` bytes."""
    data = read_start(path, limit + 1)
    if len(data) > limit:
        size = max(path.stat().st_size, len(data))
        raise OSError(errno.EFBIG, f"it has {size} bytes, expected at most {limit} bytes")
    return data


def _check_regular(status: os.stat_result) -> None:
    """Raises OSError unless a status is that of a regular file."""
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, expected a file")
