"""The waveform that Whisper takes: float32 [samples], mono, 16 kHz, full scale 1.0."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from max_whisper.errors import AudioError

SAMPLE_RATE = 16000
MIN_SAMPLE_RATE = 1000
"""The lowest sample rate that is accepted: a file that claims 1 Hz would fill the memory with interpolated samples."""
MAX_SAMPLE_RATE = 768_000
"""The highest sample rate that is accepted, which is that of the fastest converters."""
MAX_SECONDS = 86_400
"""The longest recording: a day."""
MAX_PEAK = 100.0
"""The largest sample that is accepted as audio of full scale 1.0 (+40 dB): integers stored as floats are larger."""

Waveform = npt.NDArray[np.float32]


def check_waveform(array: npt.NDArray[Any]) -> Waveform:
    """Checks samples that the caller already has, mono and 16 kHz.

    Args:
        array: [samples], float32 or float64 of full scale 1.0, or int16, which is divided by 32768. Values somewhat
            beyond full scale are kept as they are.

    Returns:
        float32 [samples]; the array itself where nothing had to be changed.

    Raises:
        AudioError: The array has another type or more dimensions, is empty, or holds samples that are NaN, infinite or
            beyond MAX_PEAK.
    """
    array = np.asarray(array)
    if array.dtype not in (np.float32, np.float64, np.int16):
        raise AudioError(
            f"a waveform of type {array.dtype} was given, expected float32 or float64 of full scale 1.0, or int16: "
            "convert it first"
        )
    if array.ndim != 1:
        raise AudioError(
            f"a waveform of shape {list(array.shape)} was given, expected [samples]: mix the channels down to one, for "
            "example with waveform.mean(axis=the axis of the channels)"
        )
    if not array.size:
        raise AudioError("the waveform is empty, expected at least one sample: give the sound to transcribe")
    if array.dtype == np.int16:
        return full_scale(array)
    check_samples(array, "the waveform")
    return array.astype(np.float32, copy=False)


def full_scale(samples: npt.NDArray[np.int16]) -> Waveform:
    """Returns int16 samples as float32 of full scale 1.0."""
    waveform: Waveform = samples / np.float32(32768)
    return waveform


def check_samples(samples: npt.NDArray[Any], name: str, where: str = "") -> None:
    """Raises AudioError for float samples that are no audio of full scale 1.0.

    Args:
        samples: Any shape.
        name: What to call the sound in messages.
        where: What messages add about the position, such as " after 2.00 s".
    """
    peak = max(float(samples.max(initial=0)), -float(samples.min(initial=0)))  # NaN if one sample is
    if peak <= MAX_PEAK:
        return
    if np.isfinite(peak):
        raise AudioError(
            f"{name} holds samples as large as {peak:g}{where}, expected full scale 1.0: it looks like integer "
            "samples stored as floats; divide them by their full scale (32768 for 16 bits)"
        )
    raise AudioError(
        f"{name} holds samples that are not finite numbers (NaN or infinity){where}: make it again, or "
        "replace them by zero"
    )
