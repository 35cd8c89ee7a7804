"""Reads raw sound: int16 samples at 16 kHz, one channel, which Bazarr and voice assistants send without a header."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

from max_whisper.errors import AudioError
from max_whisper.runtime.audio.headers import PROBED_BYTES, kind_of
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.audio.waveform import SAMPLE_RATE

SAMPLE_BYTES = 2


def has_header(file: IO[bytes]) -> bool:
    """Returns whether a file begins as one of the common kinds of audio and video files does, and is so not raw."""
    file.seek(0)
    return kind_of(file.read(PROBED_BYTES)) is not None


def raw_recording(
    file: IO[bytes], name: str, max_seconds: float, stop: Callable[[], bool] = lambda: False
) -> Recording:
    """Returns the sound of a file of raw samples, which must stay open while the recording is read.

    Args:
        file: The samples.
        name: What messages call it.
        max_seconds: The longest sound that is taken.
        stop: Makes reading raise Cancelled where it returns True.

    Raises:
        AudioError: There is no sample, or there are too many.
    """
    file.seek(0, os.SEEK_END)
    samples = file.tell() // SAMPLE_BYTES
    if not samples:
        raise AudioError(f"{name} has no sample, expected raw int16 samples at {SAMPLE_RATE} Hz")
    if samples > max_seconds * SAMPLE_RATE:
        raise AudioError(f"{name} is longer than {max_seconds:g} seconds: cut it into shorter files")
    return Recording(file, stop)
