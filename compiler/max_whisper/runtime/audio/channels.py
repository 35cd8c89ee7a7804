"""The channels of decoded frames: do they cancel each other in the mix, and one of them alone."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from max_whisper.runtime.audio.waveform import SAMPLE_RATE

CANCELLED = 1e-3
"""Of the power of the loudest channel, what at least is in the mix (-30 dB), unless the channels cancel each other."""
AUDIBLE = 1e-6
"""The mean square of sound: what is softer than -60 dB of full scale is not missed in the mix."""

_STRIDE = 8
"""Every eighth sample is enough to tell how loud a channel is."""


class Phases:
    """Compares the mix with its loudest channel, second by second."""

    def __init__(self) -> None:
        self.heard = self.cancelled = 0  # seconds
        self._cancelled_power: npt.NDArray[np.float64] | None = None
        self._before: tuple[npt.NDArray[np.float64], float] | None = None
        self._start()

    def _start(self) -> None:
        self._energy: npt.NDArray[np.float64] | None = None
        self._seconds = 0.0  # that were heard: every third frame or so will do, and of it every eighth sample
        self._mix = self._mix_seconds = 0.0

    @property
    def wants_more(self) -> bool:
        """Whether the next frame should be heard."""
        return self._seconds <= self._mix_seconds / 3

    def hear(self, planes: npt.NDArray[Any], rate: int, mixed: npt.NDArray[np.bool_]) -> None:
        """A frame, [channels, samples], of which the channels `mixed` go into the mix."""
        energy = mixed * np.square(_full_scale(planes[:, ::_STRIDE])).sum(axis=1, dtype=np.float64) * (_STRIDE / rate)
        if self._energy is None or len(self._energy) != len(energy):
            self._start()
            self._energy = energy
        else:
            self._energy += energy
        self._seconds += planes.shape[1] / rate

    def mixed(self, samples: npt.NDArray[Any]) -> None:
        """What the mix became: int16."""
        if self._energy is not None:
            some = samples[::_STRIDE].astype(np.float32)
            self._mix += float(np.vdot(some, some)) * (_STRIDE / SAMPLE_RATE / 32768**2)
            self._mix_seconds += len(samples) / SAMPLE_RATE
            if self._mix_seconds >= 1:
                self._next_second()

    def _next_second(self) -> None:
        """Judges the second before, of whose mix the last part came in this one."""
        mix = self._mix / max(self._mix_seconds, 0.01)
        if self._before is not None:
            power, mix_before = self._before
            loudest = float(power.max())
            if loudest > AUDIBLE:
                self.heard += 1
                if mix_before + mix < CANCELLED * loudest:
                    self.cancelled += 1
                    known = self._cancelled_power
                    self._cancelled_power = power if known is None or len(known) != len(power) else known + power
        self._before = None if self._energy is None else (self._energy / self._seconds, mix)
        self._start()

    def end(self) -> None:
        """All has been heard."""
        self._next_second()
        self._next_second()

    @property
    def loudest(self) -> int:
        """Which channel was the loudest where the mix lost the sound."""
        return 0 if self._cancelled_power is None else int(self._cancelled_power.argmax())


class Planes:
    """The channels of frames, which FFmpeg packs where PyAV would read beyond the end of its table of planes."""

    _TABLE = 8

    def __init__(self) -> None:
        self._packer: av.AudioResampler | None = None
        self._packs = ""

    def of(self, frame: AudioFrame) -> npt.NDArray[Any]:
        """[channels, samples] of any frame."""
        channels = frame.layout.nb_channels
        samples: npt.NDArray[Any]
        if not frame.format.is_planar:
            samples = frame.to_ndarray().reshape(-1, channels).T
            return samples
        if channels < self._TABLE:
            samples = frame.to_ndarray()
            return samples
        kind = f"{frame.format.name}, {frame.layout.name}, {frame.sample_rate}"
        if self._packer is None or kind != self._packs:
            self._packer = av.AudioResampler(frame.format.packed.name, frame.layout, frame.sample_rate)
            self._packs = kind
        packed = [each for each in self._packer.resample(frame) if each is not None]
        samples = np.concatenate([self.of(each) for each in packed], axis=1)
        return samples


def _full_scale(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Samples as FFmpeg stores them, as floats within full scale 1.0."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    within: npt.NDArray[Any] = np.fmin(np.fmax(samples, -1), 1)  # NaN as well
    return within


def alone(frame: AudioFrame, planes: npt.NDArray[Any], channel: int) -> AudioFrame:
    """One channel of a frame; the last if it has fewer."""
    plane = np.ascontiguousarray(planes[min(channel, len(planes) - 1)][np.newaxis])
    one = AudioFrame.from_ndarray(plane, format=frame.format.packed.name, layout="mono")
    one.sample_rate = frame.sample_rate
    one.pts = frame.pts
    one.time_base = frame.time_base
    return one
