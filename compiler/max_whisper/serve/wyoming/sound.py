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

    @property
    def is_plain(self) -> bool:
        """Whether a stream takes it: 16 bits and one channel, at any rate."""
        return (self.width, self.channels) == (SAMPLE_BYTES, 1)

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


def check_length(size: int, format: Format, options: ServeOptions) -> None:
    """Raises RequestError where a sound of so many bytes is longer than the server takes."""
    most = min(options.max_upload_mb * 1_000_000, int(options.max_audio_seconds * format.bytes_per_second))
    if size > most:
        seconds = most / format.bytes_per_second
        raise RequestError(
            413,
            f"the recording is longer than {seconds:.6g} seconds, which is what this server takes: send audio-stop "
            "earlier",
            code="audio_too_long",
        )


class Sound:
    """The sound so far, which is not transcribed before it is complete."""

    def __init__(self, format: Format) -> None:
        """Makes an empty one."""
        self._storage = Storage(IN_MEMORY)
        self._header = format.header()
        self._storage.write(self._header)

    async def write(self, data: bytes) -> None:
        """Appends samples, which need not be whole; the disk is written to in a thread."""
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
