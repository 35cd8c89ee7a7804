"""Keeps decoded sound in memory, or in a temporary file."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np

from max_whisper.errors import AudioError, Cancelled, MaxWhisperError, NoRoomError
from max_whisper.messages import printable
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, Waveform, full_scale

MAX_HOURS = 24
"""The longest audio that is read: 24 hours are 2.8 GB of int16, in a temporary file."""
KEPT_FREE = 0.05
"""The fraction of the disk with the temporary folder that is left free for other programs, at most 1 GiB."""
_CHUNK = 4 << 20


class Storage:
    """Bytes that are appended and then read: up to a limit they are in memory, and above it in a temporary file.

    A temporary folder without room is a failure of the machine and not of the audio, so it is a NoRoomError and no
    AudioError.

    Attributes:
        file: The file, which the owner of the storage closes.
        size: The number of bytes.
    """

    def __init__(self, in_memory: int) -> None:
        """Takes the number of bytes that are kept in memory."""
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(in_memory)  # noqa: SIM115 (the owner closes it)
        self._in_memory = in_memory
        self.size = 0
        self._room_checked = 0  # the size for which the disk is known to have room

    def write(self, data: bytes) -> None:
        """Appends `data`; raises NoRoomError when the temporary folder has no room for it."""
        with self._closed_when_full():
            if self.size + len(data) > self._in_memory and self.size + len(data) > self._room_checked:
                # The first time, the bytes in memory go there as well.
                check_room(len(data) + _CHUNK + (0 if self._room_checked else self.size))
                self._room_checked = self.size + len(data) + _CHUNK
            self.file.write(data)
        self.size += len(data)

    def flush(self) -> None:
        """Writes what is buffered; raises NoRoomError when the temporary folder has no room for it."""
        with self._closed_when_full():
            self.file.flush()

    @contextlib.contextmanager
    def _closed_when_full(self) -> Iterator[None]:
        """Closes the file where a block raises OSError, and raises what `temporary_folder` does instead."""
        with temporary_folder():
            try:
                yield
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Gives the memory and the disk back. What is still buffered is not missed where the disk is full."""
        with contextlib.suppress(OSError):
            self.file.close()

    def clear(self) -> None:
        """Removes all bytes."""
        self.file.seek(0)
        self.file.truncate()
        self.size = self._room_checked = 0


class DecodedSound(Storage):
    """The int16 samples of one file, at most those of some seconds.

    Attributes:
        stop: Returns whether to stop decoding.
    """

    def __init__(
        self, name: str, max_seconds: float, in_memory: int, stop: Callable[[], bool], kept: Callable[[int], None]
    ) -> None:
        """Takes what messages call the file, and what `open_audio` takes under the other names."""
        super().__init__(in_memory)
        self._name = name
        self._max_seconds = max_seconds
        self._kept = kept
        self.stop = stop

    def write(self, data: bytes) -> None:
        """Appends samples; raises AudioError for more than are allowed, and Cancelled where `stop()` returns True."""
        if self.stop():
            raise Cancelled
        self._kept(len(data))
        super().write(data)
        if self.size > self._max_seconds * SAMPLE_RATE * 2:
            all_hours = self._max_seconds == MAX_HOURS * 3600
            longest = f"{MAX_HOURS} hours" if all_hours else f"{self._max_seconds:g} seconds"
            raise AudioError(f"{self._name} is longer than {longest}: cut it into shorter files")

    def clear(self) -> None:
        """Removes all samples."""
        self._kept(-self.size)
        super().clear()


def check_room(size: int) -> None:
    """Raises OSError when the disk of the temporary folder has no room for `size` more bytes."""
    disk = os.statvfs(tempfile.gettempdir())
    if disk.f_bavail * disk.f_frsize < size + min(KEPT_FREE * disk.f_blocks * disk.f_frsize, 1 << 30):
        raise OSError(errno.ENOSPC, f"only {disk.f_bavail * disk.f_frsize >> 20} MB are free")


@contextlib.contextmanager
def temporary_folder() -> Iterator[None]:
    """Turns an OSError of a block into an error about the temporary folder; the block must use no other folder.

    Raises NoRoomError where the folder is full, MaxWhisperError where it cannot be used.
    """
    try:
        yield
    except OSError as e:
        raise (NoRoomError if e.errno in (errno.ENOSPC, errno.EDQUOT) else MaxWhisperError)(
            f"the temporary folder {_folder()} cannot take the sound ({printable(e.strerror or e, 200)}), expected "
            "room for large files: make room there, or set TMPDIR to a folder that has it"
        ) from e


def _folder() -> str:
    """Returns the path of the temporary folder, for messages."""
    try:
        return printable(tempfile.gettempdir(), 300)
    except OSError:  # none of the folders that Python tries can be written to
        return "of this system"


class Recording:
    """Decoded sound, 16 kHz mono; `len(recording)` is the number of samples.

    `recording[start:stop]` reads samples as float32 [samples], in [-1, 1). Up to `load.IN_MEMORY` bytes are kept in
    memory. Longer sound is in a temporary file, which is removed when the recording is dropped. Only one thread at a
    time may read a recording.

    Attributes:
        warnings: What the user should know about the sound, such as that parts of it were lost; each is a sentence.
    """

    def __init__(self, pcm: IO[bytes], stop: Callable[[], bool] = lambda: False, warnings: Sequence[str] = ()) -> None:
        """Takes a file of int16 samples, open at its end. stop: makes reading raise Cancelled where it returns True."""
        self.warnings = [*warnings]
        self._pcm = pcm
        self._stop = stop
        self._length = pcm.tell() // 2

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        """Gives the memory or the file back. The recording can no longer be read."""
        self._pcm.close()

    def __getitem__(self, part: slice) -> Waveform:
        start, stop, step = part.indices(self._length)
        assert step == 1
        if self._stop():
            raise Cancelled
        with temporary_folder():
            self._pcm.seek(2 * start)
            return full_scale(np.frombuffer(self._pcm.read(2 * max(0, stop - start)), np.int16))
