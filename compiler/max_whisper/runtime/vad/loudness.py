"""Finds the frames of a recording that are loud enough to be speech, without a model.

A frame is silent if it is hardly louder than the quietest ones and far below the loudest. Where there is no silence, as
in music or constant noise, everything counts as speech: a part too many costs time, one too few costs text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIGITAL_SILENCE = -59.0
"""The loudness in dB up to which a frame has no sound at all; zeros are at -60."""
BELOW_LOUDEST = 30.0
"""Frames that are less than this many dB below the loudest one always count as speech."""
QUIETEST = 10
"""The percentile of the loudness of frames that counts as that of the quietest ones."""


def loud_frames(loudness: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Returns for each frame of a recording whether it is loud enough to be speech, [frames].

    Args:
        loudness: That of each frame in dB, [frames], as `LogMel` has it.
        threshold: How many decibels louder than the quietest frames speech is, at least.
    """
    if not len(loudness):
        return np.zeros(0, bool)
    # As np.percentile interpolates. That imports numpy.ma, which would take 7 ms of the time to a first text.
    place = (len(loudness) - 1) * QUIETEST / 100
    quietest = np.interp(place, np.arange(len(loudness)), np.sort(loudness))
    quiet = min(quietest + threshold, loudness.max() - BELOW_LOUDEST)
    loud: NDArray[np.bool_] = loudness > max(quiet, DIGITAL_SILENCE)
    return loud
