"""Writes text files atomically: a reader finds the old file or all of the new one."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from max_whisper.errors import MaxWhisperError, UserError


def write_file(path: Path, text: str) -> None:
    """Writes a text file in UTF-8: first to a temporary file beside it, which then replaces an older one.

    Args:
        path: The file, in a folder that exists. A device or a pipe is written to, and not replaced.
        text: The content.

    Raises:
        UserError: The path cannot be written.
        MaxWhisperError: There is no space left.
    """
    try:
        if path.is_dir():
            raise UserError(
                f"{path} is a folder, expected the name of a file to write: remove it, or choose another name"
            )
        if not path.parent.is_dir():
            raise UserError(
                f"there is no folder {path.parent} to write {path.name} into: make it, or choose another one"
            )
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path, text)
    except OSError as e:
        raise write_error(path, e) from e


def write_error(name: object, error: OSError) -> MaxWhisperError:
    """Returns the error that says why a file or stream was not written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MaxWhisperError(f"{name} cannot be written, there is no space left ({error.strerror}): free some")
    return UserError(
        f"{name} cannot be written ({error.strerror or error}): choose another place, or change its permissions"
    )


def _replace(path: Path, text: str) -> None:
    import secrets  # takes 4 ms, and not every command writes files

    temporary = path.with_name(f".max-whisper-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
