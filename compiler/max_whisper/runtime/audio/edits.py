"""Edit lists of mp4 files, of which a few kilobytes keep FFmpeg busy for minutes while it opens a file.

For each entry of the list it goes through all samples, and no signal ends that. Files have one entry or two; one with
many is decoded in a child process, which ends after a while.
"""

from __future__ import annotations

import os
from typing import BinaryIO

FEW = 50
"""Entries of an edit list that are believed."""
LONGEST_INDEX = 64 << 20
"""Bytes of a file's index that are looked at; one of ten hours has about 7 MB, and a longer one counts as odd."""
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot", b"udta", b"styp")


def has_many_edits(file: BinaryIO) -> bool:
    """Returns whether a seekable file is an mp4, or of its family, with a long edit list; leaves it at its beginning.

    What cannot be read has none: decoding finds the same, and says so.

    The format is ISO/IEC 14496-12: boxes of a size, four letters and a content. `moov` is the index, and `elst` in it a
    list of edits, whose number stands eight bytes behind its name.
    """
    try:
        found = any(_longest_list(index) > FEW for index in _indexes(file))
        file.seek(0)
    except Exception:  # a file object of the caller may raise anything
        return False
    return found


def _indexes(file: BinaryIO) -> list[bytes]:
    """The content of each `moov` at the top of the file."""
    found = []
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
            found.append(file.read(min(size, LONGEST_INDEX + 1)))
        if size < 8:
            break
        position += size
        if position >= end:
            break
    return found


def _longest_list(index: bytes) -> int:
    """The most entries of an edit list in a `moov`; those of one that is too long to look at are many."""
    if len(index) > LONGEST_INDEX:
        return FEW + 1
    longest, at = 0, index.find(b"elst")
    while at >= 0:
        longest = max(longest, int.from_bytes(index[at + 8 : at + 12], "big"))
        at = index.find(b"elst", at + 4)
    return longest
