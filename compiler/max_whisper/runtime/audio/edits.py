"""Finds long edit lists in mp4 files: a few kilobytes of them keep FFmpeg busy for minutes while it opens a file.

For each entry of the list it goes through all samples, and no signal ends that. Most files have one entry or two; one
with many is decoded in a child process, which ends after a while.
"""

from __future__ import annotations

import os
from typing import BinaryIO

MAX_EDITS = 50
"""The most entries of an edit list that are believed."""
MAX_INDEX_BYTES = 64 << 20
"""The largest index that is searched; that of ten hours has 7 MB. A larger one counts as one with many edits."""
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot", b"udta", b"styp")


def has_many_edits(file: BinaryIO) -> bool:
    """Returns whether a seekable file is an mp4, or of its family, with a long edit list; leaves it at its beginning.

    A file that cannot be read counts as one without: decoding finds that again, and reports it.

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
