"""Files that others made: opened only where they are regular files, and read only up to a size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from max_whisper.errors import UserError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def expanded(path: str | os.PathLike[str]) -> Path:
    """Returns a path as a user names it, with their home for `~`; a user that there is not stays, as in a shell.

    Raises UserError for what is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"expected a path as text or os.PathLike, got {type(path).__name__}")
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for users that do not exist


def is_there(path: Path) -> bool:
    """Returns whether something has this name: a file of any kind, or a link, even one that leads to nothing.

    What cannot be looked at counts as there, so that reading it can say why; what can be no name does not.
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
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for what it may not look at


def is_regular(path: Path) -> bool:
    """Returns whether `path` is a regular file or a link to one; never raises."""
    return os.path.isfile(path)  # noqa: PTH113 - as above


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file, or a link to one, for reading in binary.

    Anything else is refused before it is opened: a pipe would wait for a writer, and a device may do something. Raises
    OSError, whose `strerror` says what is there instead.
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
    """Returns the first `size` bytes of a regular file, or all that it has. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        data = file.read(size)
    if data is None:  # a file of /proc that waits for news
        raise OSError(errno.EAGAIN, "it gives nothing to read")
    return data


def read_all(path: Path, limit: int) -> bytes:
    """Returns the content of a regular file. Raises OSError as `open_regular` does, and for more than `limit` bytes."""
    data = read_start(path, limit + 1)
    if len(data) > limit:
        size = max(path.stat().st_size, len(data))
        raise OSError(errno.EFBIG, f"it has {size} bytes, expected at most {limit} bytes")
    return data


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, expected a file")
