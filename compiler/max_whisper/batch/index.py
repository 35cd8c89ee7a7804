"""Remembers the hashes of recordings, so that another run does not read a whole archive to find that it is done.

A file whose size and time of change are the same is taken to be the same, as rsync and make do.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from max_whisper.batch.frames import FrameFile, encode, read_frames
from max_whisper.runtime.output.files import write_error


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a recording.

    Attributes:
        place: Its path or URL, as bytes.
        stamp: Its size, and when it was changed.
        content: The hash of its content.
        seconds: How long it is, as far as that was known.
    """

    place: bytes
    stamp: str
    content: str
    seconds: float


class Index:
    """What is known of the recordings of an archive, in a file that grows."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if it is there. Raises MaxWhisperError where it cannot be read or written."""
        try:
            known, size = read_frames(path, Known)
            self._file = FrameFile(path, size)
        except OSError as error:
            raise write_error(path, error) from error
        self._known: dict[bytes, Known] = {one.place: one for one in known}

    def find(self, place: bytes, stamp: str) -> Known | None:
        """Returns what is known of a recording, if it did not change; one with an empty stamp may have."""
        known = self._known.get(place)
        return known if known is not None and stamp and known.stamp == stamp else None

    def last(self, place: bytes) -> Known | None:
        """Returns what was known of a recording when it was last read, whether it has changed or not."""
        return self._known.get(place)

    def add(self, known: Known) -> None:
        """Remembers a recording. Raises MaxWhisperError where it cannot be written."""
        if self._known.get(known.place) == known:
            return
        self._known[known.place] = known
        try:
            self._file.append(encode(known))
        except OSError as error:
            raise write_error(self._file.path, error) from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
