"""Converts sound of another rate to 16 kHz, chunk by chunk, by FFmpeg's libswresample."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from max_whisper.runtime.audio.waveform import SAMPLE_RATE, Waveform


class Resampler:
    """Converts the sound of one stream."""

    def __init__(self, rate: int) -> None:
        """rate: the samples of a second of what comes in."""
        self._rate = rate
        self._time = 0
        self._resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)

    def resampled(self, samples: Waveform) -> Waveform:
        """Returns the samples at 16 kHz that are known so far; the filter holds some milliseconds back."""
        if not len(samples):
            return np.zeros(0, np.float32)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._time, Fraction(1, self._rate)
        self._time += len(samples)
        return self._taken(frame)

    def rest(self) -> Waveform:
        """Returns the samples that the filter has held back. Nothing may follow."""
        return self._taken(None) if self._time else np.zeros(0, np.float32)

    def _taken(self, frame: av.AudioFrame | None) -> Waveform:
        parts = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        samples: Waveform = np.concatenate([np.zeros(0, np.float32), *parts])
        return samples
