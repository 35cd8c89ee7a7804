"""Frames: messages behind their length, through pipes and in files.

A file of frames may end in the middle of one, because the process that wrote it was killed. What is torn is cut off
when it is opened for more.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

LARGEST = 256 << 20
"""The most bytes of a frame. The row of a recording of 24 hours, with the times of its words, takes 20 MB."""
_LENGTH = struct.Struct("<I")
_CHUNK = 1 << 20


class FrameError(ValueError):
    """Raised for a frame that is longer than any."""


class FrameReader:
    """Puts frames together that come in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the content of each frame that is complete with these bytes. Raises FrameError for one too long."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            if length > LARGEST:
                raise FrameError(f"a frame of {length} bytes, expected at most {LARGEST}")
            end = _LENGTH.size + length
            if len(self._data) < end:
                return
            content = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            yield content


def frame(content: bytes) -> bytes:
    """Returns the frame of some content. Raises FrameError for too much of it."""
    if len(content) > LARGEST:
        raise FrameError(f"a frame of {len(content)} bytes, expected at most {LARGEST}")
    return _LENGTH.pack(len(content)) + content


def encode(message: Any) -> bytes:
    """Returns a message as msgpack; numpy's numbers count as Python's."""
    return msgspec.msgpack.encode(message, enc_hook=lambda value: value.item())


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all bytes to a file or a pipe, unbuffered. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_frames(path: Path, kind: Any) -> tuple[list[Any], int]:
    """Returns the messages in a file of frames, and the number of bytes that these take.

    It ends at the first frame that is torn, or no message of this kind. A file that is not there has none. Raises
    OSError.
    """
    messages: list[Any] = []
    end = 0
    reader = FrameReader()
    try:
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                for content in reader.feed(data):
                    messages.append(msgspec.msgpack.decode(content, type=kind))
                    end += _LENGTH.size + len(content)
    except (FileNotFoundError, ValueError):  # the errors of msgspec, and those of text that is no UTF-8
        pass
    return messages, end


class FrameFile:
    """A file to which frames are appended, each of which outlives this process as soon as it is written."""

    def __init__(self, path: Path, size: int) -> None:
        """Opens a file, or makes it, and cuts it to `size`, which `read_frames` returned. Raises OSError."""
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.ftruncate(self._descriptor, size)

    def append(self, content: bytes) -> None:
        """Appends a frame. Raises OSError."""
        write_all(self._descriptor, frame(content))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)
