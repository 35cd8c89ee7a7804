"""Decoded sound, kept in memory or in a temporary file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from max_whisper.errors import MaxWhisperError
from max_whisper.messages import printable
from max_whisper.runtime.audio.waveform import Waveform, full_scale

LEFT_FREE = 0.05
"""The share of the disk with the temporary folder that is left free, for the others who write there; at most 1 GiB."""
_CHUNK = 4 << 20


class Storage:
    """Bytes that are appended and then read: up to `in_memory` of them in memory, more in a temporary file.

    A temporary folder that has no room is a failure of this machine, and not the fault of the audio.
    """

    def __init__(self, in_memory: int) -> None:
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(in_memory)  # noqa: SIM115 (whoever holds it closes it)
        self._in_memory = in_memory
        self.size = 0
        self._checked = 0

    def write(self, data: bytes) -> None:
        """Appends `data`; raises MaxWhisperError when the temporary folder has no room for it."""
        with self._closed_when_full():
            if self.size + len(data) > self._in_memory and self.size + len(data) > self._checked:
                # The first time, what was in memory goes there as well.
                check_room(len(data) + _CHUNK + (0 if self._checked else self.size))
                self._checked = self.size + len(data) + _CHUNK
            self.file.write(data)
        self.size += len(data)

    def flush(self) -> None:
        """Raises MaxWhisperError when the temporary folder has no room for the last bytes."""
        with self._closed_when_full():
            self.file.flush()

    @contextlib.contextmanager
    def _closed_when_full(self) -> Iterator[None]:
        with temporary_folder():
            try:
                yield
            except OSError:
                with contextlib.suppress(OSError):  # it tries to write what is left
                    self.file.close()
                raise

    def clear(self) -> None:
        """Forgets all bytes."""
        self.file.seek(0)
        self.file.truncate()
        self.size = self._checked = 0


def check_room(size: int) -> None:
    """Raises OSError when the disk of the temporary folder has no room for `size` more bytes."""
    disk = os.statvfs(tempfile.gettempdir())
    if disk.f_bavail * disk.f_frsize < size + min(LEFT_FREE * disk.f_blocks * disk.f_frsize, 1 << 30):
        raise OSError(f"only {disk.f_bavail * disk.f_frsize >> 20} MB are free")


@contextlib.contextmanager
def temporary_folder() -> Iterator[None]:
    """Blames the temporary folder for an OSError: only what reads and writes there may be inside."""
    try:
        yield
    except OSError as e:
        raise MaxWhisperError(
            f"the temporary folder {_folder()} cannot take the sound ({printable(e.strerror or e, 200)}), expected "
            "room for large files: make room there, or set TMPDIR to a folder that has it"
        ) from e


def _folder() -> str:
    try:
        return printable(tempfile.gettempdir(), 300)
    except OSError:  # none of those that Python tries can be written to
        return "of this system"


class Recording:
    """Decoded sound, 16 kHz mono: `recording[start:stop]` is float32 [samples], `len` is the number of samples.

    Up to `audio.IN_MEMORY` bytes of int16 are in memory, more in a temporary file that goes with the recording.
    """

    def __init__(self, pcm: IO[bytes]) -> None:
        """pcm: int16, open at its end."""
        self._pcm = pcm
        self._length = pcm.tell() // 2

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Waveform:
        start, stop, step = part.indices(self._length)
        assert step == 1
        with temporary_folder():
            self._pcm.seek(2 * start)
            return full_scale(np.frombuffer(self._pcm.read(2 * max(0, stop - start)), np.int16))
