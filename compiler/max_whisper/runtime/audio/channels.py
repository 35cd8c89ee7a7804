"""Detects channels that cancel each other in the mix, and takes one channel of a frame alone."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from max_whisper.runtime.audio.waveform import SAMPLE_RATE

CANCELLED = 1e-3
"""The fraction of the power of the loudest channel below which the mix counts as cancelled (-30 dB)."""
AUDIBLE = 1e-6
"""The mean square of sound that would be missed in the mix; what is softer than -60 dB of full scale is not."""

_STRIDE = 8
"""Every eighth sample is enough to tell how loud a channel is."""


class PhaseMeter:
    """Compares the power of the mix with that of its loudest channel, second by second.

    Attributes:
        audible: The number of seconds in which a channel is audible.
        cancelled: The number of these in which the channels cancel each other.
    """

    def __init__(self) -> None:
        self.audible = self.cancelled = 0
        self._cancelled_power: npt.NDArray[np.float64] | None = None  # of each channel, where they cancel each other
        self._before: tuple[npt.NDArray[np.float64], float] | None = None  # the power in the second before, and the mix
        self._start_second()

    def _start_second(self) -> None:
        self._energy: npt.NDArray[np.float64] | None = None
        self._seconds = 0.0  # that were measured: about every third frame, and of it every eighth sample
        self._mix = self._mix_seconds = 0.0

    @property
    def wants_frame(self) -> bool:
        """Whether the next frame should be added."""
        return self._seconds <= self._mix_seconds / 3

    def add_frame(self, samples: npt.NDArray[Any], rate: int, mixed: npt.NDArray[np.bool_]) -> None:
        """Measures a frame.

        Args:
            samples: The frame, [channels, samples], in the type in which FFmpeg stores it.
            rate: Its sample rate in Hz.
            mixed: Which channels go into the mix, [channels].
        """
        power = np.square(_full_scale(samples[:, ::_STRIDE])).sum(axis=1, dtype=np.float64)
        energy = mixed * power * (_STRIDE / rate)
        if self._energy is None or len(self._energy) != len(energy):
            self._start_second()
            self._energy = energy
        else:
            self._energy += energy
        self._seconds += samples.shape[1] / rate

    def add_mix(self, samples: npt.NDArray[Any]) -> None:
        """Measures samples of the mix, int16 [samples] at 16 kHz."""
        if self._energy is not None:
            strided = samples[::_STRIDE].astype(np.float32)
            self._mix += float(np.vdot(strided, strided)) * (_STRIDE / SAMPLE_RATE / 32768**2)
            self._mix_seconds += len(samples) / SAMPLE_RATE
            if self._mix_seconds >= 1:
                self._end_second()

    def _end_second(self) -> None:
        """Judges the second before, because the last part of its mix came in this one."""
        mix = self._mix / max(self._mix_seconds, 0.01)
        if self._before is not None:
            power, mix_before = self._before
            loudest = float(power.max())
            if loudest > AUDIBLE:
                self.audible += 1
                if mix_before + mix < CANCELLED * loudest:
                    self.cancelled += 1
                    total = self._cancelled_power
                    self._cancelled_power = power if total is None or len(total) != len(power) else total + power
        self._before = None if self._energy is None else (self._energy / self._seconds, mix)
        self._start_second()

    def end(self) -> None:
        """Judges the last two seconds, after everything was added."""
        self._end_second()
        self._end_second()

    @property
    def loudest(self) -> int:
        """The channel that was the loudest where the channels cancelled each other, from 0."""
        return 0 if self._cancelled_power is None else int(self._cancelled_power.argmax())


class ChannelReader:
    """Reads the channels of frames.

    A planar frame with many channels is interleaved by FFmpeg first, because PyAV would read beyond the end of its
    table of planes.
    """

    _TABLE = 8

    def __init__(self) -> None:
        self._packer: av.AudioResampler | None = None
        self._packer_format = ""

    def of(self, frame: AudioFrame) -> npt.NDArray[Any]:
        """Returns the samples of a frame, [channels, samples]."""
        channels = frame.layout.nb_channels
        samples: npt.NDArray[Any]
        if not frame.format.is_planar:
            samples = frame.to_ndarray().reshape(-1, channels).T
            return samples
        if channels < self._TABLE:
            samples = frame.to_ndarray()
            return samples
        frame_format = f"{frame.format.name}, {frame.layout.name}, {frame.sample_rate}"
        if self._packer is None or frame_format != self._packer_format:
            self._packer = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
            self._packer_format = frame_format
        packed = [part for part in self._packer.resample(frame) if part is not None]
        samples = np.concatenate([self.of(part) for part in packed], axis=1)
        return samples


def _full_scale(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns samples as floats within full scale 1.0, from any type in which FFmpeg stores them."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    clipped: npt.NDArray[Any] = np.fmin(np.fmax(samples, -1), 1)  # NaN as well
    return clipped


def single_channel(frame: AudioFrame, samples: npt.NDArray[Any], channel: int) -> AudioFrame:
    """Returns a frame with one channel of another, whose samples are given; its last channel if it has fewer."""
    plane = np.ascontiguousarray(samples[min(channel, len(samples) - 1)][np.newaxis])
    mono = AudioFrame.from_ndarray(plane, format=frame.format.packed.name, layout="mono")
    mono.sample_rate = frame.sample_rate
    mono.pts = frame.pts
    mono.time_base = frame.time_base
    return mono
