"""Measures how loud the newest sound is."""

from __future__ import annotations

import time

import numpy as np

from max_whisper.runtime.streaming.backlog import Samples

SHOWN_SECONDS = 0.1
"""The newest sound, whose loudness is shown."""
QUIETEST = -60.0
"""The decibels below full scale at which the meter is empty."""
CLIPPED = 0.99
"""The part of full scale from which on sound is too loud for the sound card."""


class Meter:
    """The loudness of the newest sound; one thread writes it, and another reads it.

    Attributes:
        level: From 0, for silence, to 1, for full scale; even steps of it sound alike.
        clipped: Whether it was too loud.
        heard: When sound came last, in seconds of `time.monotonic`.
    """

    def __init__(self, sample_rate: int) -> None:
        """sample_rate: the samples of a second."""
        self.level = 0.0
        self.clipped = False
        self.heard = time.monotonic()
        self._newest = max(1, round(SHOWN_SECONDS * sample_rate))

    def hear(self, samples: Samples) -> None:
        """Measures the newest of some samples, int16 or float32 [samples]."""
        newest = samples[-self._newest :].astype(np.float32)
        if not newest.size:
            return
        if samples.dtype == np.int16:
            newest /= 32768
        loudness = 10 * np.log10(max(float(np.square(newest).mean()), 1e-12))
        self.level = min(1.0, max(0.0, 1 - loudness / QUIETEST))
        self.clipped = float(np.abs(newest).max()) >= CLIPPED
        self.heard = time.monotonic()
