"""Says what a file is that turned out not to be a checkpoint of the expected format."""

from __future__ import annotations

from pathlib import Path

from max_whisper.files import read_start

LFS_POINTER = b"version https://"
"""The beginning of what git has in place of a large file whose content was not fetched."""


def is_lfs_pointer(path: Path) -> bool:
    """Returns whether a file is a Git LFS pointer; never raises."""
    try:
        return read_start(path, len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def is_pickle(path: Path) -> bool:
    """Returns whether a file looks like a PyTorch pickle, which is a zip file or begins with a pickle; never raises."""
    try:
        start = read_start(path, 8)
    except OSError:
        return False
    zeros = bytes(4)  # the upper half of the length of a safetensors header, which is not zero in these
    return start.startswith((b"PK\x03\x04", b"\x80\x02")) and start[4:8] != zeros


def other_kind(path: Path) -> str:
    """Returns the kind of a file that is not of the expected format, as a part of a message; "" if it is unknown."""
    if is_lfs_pointer(path):
        return ": it is a Git LFS pointer; run `git lfs pull` in its folder"
    return ": it looks like a PyTorch pickle, which is never read" if is_pickle(path) else ""
