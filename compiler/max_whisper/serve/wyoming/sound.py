"""Keeps the sound that a client sends until it is complete: in memory, and above a bound in a file without a name."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from max_whisper.runtime.audio.container import MAX_CHANNELS
from max_whisper.runtime.audio.recording import Recording, Storage
from max_whisper.runtime.audio.waveform import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SAMPLE_RATE
from max_whisper.serve.errors import RequestError
from max_whisper.serve.options import ServeOptions
from max_whisper.serve.raw_sound import SAMPLE_BYTES
from max_whisper.serve.shown import shown
from max_whisper.serve.transcribing import Task
from max_whisper.serve.wyoming.frames import Garbage

IN_MEMORY = 4 << 20
"""The bytes of a recording that are kept in memory: two minutes at 16 kHz."""
NAME = "the recording"
MAX_WIDTH = 4
UNKNOWN_SIZE = 0xFFFFFFFF
"""The size that the header of a WAV file has where it is written before the sound: all until the end of the file."""


@dataclass(frozen=True)
class Format:
    """The format of samples, which are integers: unsigned where they have one byte, as in WAV files.

    Attributes:
        rate: The samples of each channel in a second.
        width: The bytes of a sample.
        channels: The number of channels.
    """

    rate: int
    width: int
    channels: int

    @property
    def bytes_per_second(self) -> int:
        """The bytes of a second of sound."""
        return self.rate * self.width * self.channels

    def __str__(self) -> str:
        return f"{self.channels} x {8 * self.width} bit at {self.rate} Hz"

    def header(self) -> bytes:
        """Returns what makes a WAV file of the samples that follow; nothing where they are what Whisper takes."""
        if self == Format(SAMPLE_RATE, SAMPLE_BYTES, 1):
            return b""
        frame = self.width * self.channels
        layout = (1, self.channels, self.rate, self.rate * frame, frame, 8 * self.width)
        head = struct.pack("<4sI4s4sI", b"RIFF", UNKNOWN_SIZE, b"WAVE", b"fmt ", 16)
        return head + struct.pack("<HHIIHH", *layout) + struct.pack("<4sI", b"data", UNKNOWN_SIZE)


def read_format(data: dict[str, Any]) -> Format:
    """Returns the format that `audio-start` and `audio-chunk` have. Raises Garbage for one that no recording has."""

    def number(name: str, low: int, high: int) -> int:
        value = data.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Garbage(f"an integer, {low} to {high}, as {name}", shown(value))
        return value

    return Format(
        number("rate", MIN_SAMPLE_RATE, MAX_SAMPLE_RATE),
        number("width", 1, MAX_WIDTH),
        number("channels", 1, MAX_CHANNELS),
    )


class Sound:
    """The sound so far.

    Attributes:
        format: The format of its samples.
        size: Their bytes.
    """

    def __init__(self, format: Format, options: ServeOptions) -> None:
        """Makes an empty one; the options say how long it may become."""
        self.size = 0
        self._options = options
        self._storage = Storage(IN_MEMORY)
        self.begin(format)

    def begin(self, format: Format) -> None:
        """Takes another format, as long as there is no sample."""
        self.format = format
        seconds, most = self._options.max_audio_seconds, self._options.max_upload_mb * 1_000_000
        self._max_bytes = min(most, int(seconds * format.bytes_per_second))
        self._header = format.header()
        self._storage.clear()
        self._storage.write(self._header)

    def check_room(self, size: int) -> None:
        """Raises RequestError where there is no room for that many bytes more."""
        if self.size + size > self._max_bytes:
            seconds = self._max_bytes / self.format.bytes_per_second
            raise RequestError(
                413,
                f"the recording is longer than {seconds:.6g} seconds, which is what this server takes: send audio-stop "
                "earlier",
                code="audio_too_long",
            )

    async def write(self, data: bytes) -> None:
        """Appends samples, which need not be whole; the disk is written to in a thread."""
        self.size += len(data)
        if self._storage.size + len(data) > IN_MEMORY:
            await asyncio.to_thread(self._storage.write, data)
        else:
            self._storage.write(data)

    def recording(self, task: Task) -> Recording:
        """Returns the sound as Whisper takes it, in the request's thread; it must stay open while that is read.

        Other formats are converted as those of files are, so that the text is the same.
        """
        self._storage.flush()
        if self._header:
            return task.decode(cast(BinaryIO, self._storage.file), NAME)
        return task.read_raw(self._storage.file, NAME)

    def close(self) -> None:
        """Gives the memory and the file back."""
        self._storage.close()
