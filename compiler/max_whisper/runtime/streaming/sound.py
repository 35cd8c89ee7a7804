"""The sound of a stream: chunks of any size come in, and what is still needed of it is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import UserError
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, Waveform, check_waveform

SAMPLE_BYTES = 2


class ChunkReader:
    """Reads the chunks that a caller has: waveforms, or the bytes of s16le, at any rate."""

    def __init__(self, sample_rate: int) -> None:
        """sample_rate: the samples of a second."""
        self._half = b""  # of a sample whose other byte has not come yet
        self._resampler = None
        if sample_rate != SAMPLE_RATE:
            from max_whisper.runtime.streaming.resampling import Resampler  # imports FFmpeg: 45 ms, 19 MB

            self._resampler = Resampler(sample_rate)

    def read(self, chunk: NDArray[Any] | bytes | bytearray | memoryview) -> Waveform:
        """Returns the samples of a chunk at 16 kHz, float32 [samples], or fewer: the rest comes with the next one.

        Raises AudioError for a waveform that is none, UserError for another type. Nothing is kept of a refused chunk.
        """
        if isinstance(chunk, bytes | bytearray | memoryview):
            data = self._half + bytes(chunk)
            whole = len(data) - len(data) % SAMPLE_BYTES
            self._half = data[whole:]
            samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)
        elif isinstance(chunk, np.ndarray):
            samples = np.zeros(0, np.float32) if chunk.shape == (0,) else check_waveform(chunk)
        else:
            raise UserError(f"a chunk of sound: expected an array or bytes of s16le, got a {type(chunk).__name__}")
        return samples if self._resampler is None else self._resampler.resampled(samples)

    def rest(self) -> Waveform:
        """Returns the samples at 16 kHz that are left when no chunk follows."""
        return np.zeros(0, np.float32) if self._resampler is None else self._resampler.rest()


class Sound:
    """Samples at 16 kHz, which are numbered from the beginning of the stream on.

    Attributes:
        end: The number of samples so far.
    """

    def __init__(self) -> None:
        self.end = 0
        self._first = 0  # the number of the first sample that is kept
        self._kept = np.zeros(SAMPLE_RATE, np.float32)  # with room behind the samples

    def append(self, samples: Waveform) -> None:
        """Adds samples."""
        size, needed = self.end - self._first, self.end - self._first + len(samples)
        if needed > len(self._kept):
            self._move(size, max(needed, 2 * size))
        self._kept[size:needed] = samples
        self.end += len(samples)

    def part(self, first: int, last: int) -> Waveform:
        """Returns a copy of the samples from `first` up to, without, `last`, none of which may be forgotten."""
        assert self._first <= first <= last <= self.end
        part: Waveform = self._kept[first - self._first : last - self._first].copy()
        return part

    def forget(self, before: int) -> None:
        """Lets go of the samples before a number."""
        before = min(before, self.end)
        if before - self._first > len(self._kept) // 2:
            self._kept = self._kept[before - self._first :]
            self._first = before
            self._move(self.end - before, max(SAMPLE_RATE, 2 * (self.end - before)))

    def _move(self, size: int, room: int) -> None:
        """Moves the first `size` samples to memory with more or less room."""
        moved = np.zeros(room, np.float32)
        moved[:size] = self._kept[:size]
        self._kept = moved
