"""Finds long edit lists in mp4 files: a few kilobytes of them keep FFmpeg busy for minutes while it opens a file.

For each entry of the list FFmpeg goes through all samples, and no signal interrupts that. Most files have one or two
entries; a file with many is decoded in a child process, which can be killed.
"""

from __future__ import annotations

import os
from typing import BinaryIO

MAX_EDITS = 50
"""The most entries of an edit list with which a file is decoded in this process."""
MAX_INDEX_BYTES = 64 << 20
"""The largest index that is searched; that of ten hours has 7 MB. A larger one counts as one with many edits."""
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot", b"udta", b"styp")


def has_many_edits(file: BinaryIO) -> bool:
    """Returns whether a seekable file is an mp4, or of its family, with a long edit list, and seeks to its beginning.

    For a file that cannot be read it returns False, because decoding will find the same error and report it.

    The format is ISO/IEC 14496-12: boxes of a size, four letters and a content. `moov` is the index, and `elst` in it a
    list of edits, whose number stands eight bytes behind its name.
    """
    try:
        many = any(_longest_list(index) > MAX_EDITS for index in _indexes(file))
        file.seek(0)
    except Exception:  # the caller's file object may raise anything
        return False
    return many


def _indexes(file: BinaryIO) -> list[bytes]:
    """Returns each `moov` box at the top level of the file, at most MAX_INDEX_BYTES and one byte of it."""
    indexes = []
    end = file.seek(0, os.SEEK_END)
    position = 0
    for _ in range(1000):
        file.seek(position)
        head = file.read(16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if len(head) < 8 or (position == 0 and name not in _FIRST_BOXES):
            break
        if size == 1:  # then the size has 64 bits, and stands behind the name
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:  # to the end of the file
            size = end - position
        if name == b"moov":
            file.seek(position)
            indexes.append(file.read(min(size, MAX_INDEX_BYTES + 1)))
        if size < 8:
            break
        position += size
        if position >= end:
            break
    return indexes


def _longest_list(index: bytes) -> int:
    """Returns the length of the longest edit list in a `moov`, more than MAX_EDITS where it is too large to search."""
    if len(index) > MAX_INDEX_BYTES:
        return MAX_EDITS + 1
    longest, position = 0, index.find(b"elst")
    while position >= 0:
        longest = max(longest, int.from_bytes(index[position + 8 : position + 12], "big"))
        position = index.find(b"elst", position + 4)
    return longest
