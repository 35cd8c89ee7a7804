"""Makes log-mel spectrograms as openai/whisper does (whisper/audio.py, `log_mel_spectrogram`), with numpy alone."""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from max_whisper.errors import AudioError
from max_whisper.mel_filters import N_FFT, mel_filters
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, check_waveform

HOP = 160
"""The number of samples from one frame to the next: 10 ms."""
FRAMES_PER_SECOND = SAMPLE_RATE // HOP

KEPT_BYTES = 32 << 20
"""The bytes of the longest spectrogram that is kept in memory, that of ten minutes."""
_BLOCK = 256
"""The number of frames that are computed at once: their spectra (0.4 MB) fit into the cache, and fewer are slower."""

Floats = npt.NDArray[np.float32]


@cache
def _bands(n_mels: int) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]]:
    """Returns the filters in groups: of 1 or 2 frequencies that have a weight, of 3 or 4, of 5 to 8, and so on.

    Each group is the indices of its filters [filters], their frequencies [filters, width], and the weights of these. A
    few frequencies beside a narrower filter are among them, with a weight of 0.

    A filter has weights for a few neighboring frequencies. A product with the whole matrix would be computed by threads
    of numpy's BLAS, which busy-wait after it: the encoder, which comes next, took 145 ms instead of 90.
    """
    weights = mel_filters(n_mels)
    widths = np.count_nonzero(weights, axis=1)
    groups = []
    narrower, width = 0, 2
    while narrower < widths.max():
        filters = np.flatnonzero((widths > narrower) & (widths <= width))
        lowest = np.minimum((weights[filters] > 0).argmax(axis=1), weights.shape[1] - width)
        frequencies = lowest[:, None] + np.arange(width)
        groups.append((filters, frequencies, weights[filters[:, None], frequencies]))
        narrower, width = width, min(2 * width, weights.shape[1])
    return groups


class Samples(Protocol):
    """Samples, 16 kHz mono of full scale 1.0: an array, or a `Recording`, which need not be in memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Floats: ...


class LogMel:
    """The log-mel spectrogram of a recording, of which any part can be computed.

    Frames of 400 samples every 160, centered at 0, 160, …, with the ends of the (padded) waveform reflected; periodic
    Hann window; power spectrum; mel filters; log10 of at least 1e-10; raised to at least the maximum of the whole
    spectrogram - 8; (x + 4) / 4. The frame centered at the very end is dropped. Silence gives -1.5 everywhere.

    The maximum of the whole is found first. What is computed for it is kept up to KEPT_BYTES; parts of a longer
    recording are computed again when they are asked for, in the same blocks and so with equal bits, and ten hours take
    no more memory than ten minutes.

    Attributes:
        n_mels: The number of mel bands.
        frames: The number of frames, the padding included.
    """

    def __init__(self, samples: Samples, n_mels: int, *, padding: int = 0) -> None:
        """Finds the maximum; the arguments and errors are those of `log_mel`."""
        self._samples = samples
        self._total = len(samples) + padding
        if self._total <= N_FFT // 2:
            raise AudioError(
                f"the waveform has {self._total} samples ({1000 * self._total / SAMPLE_RATE:g} ms), expected at least "
                f"{N_FFT // 2 + 1} for one frame: give more sound, or padding"
            )
        self.n_mels = n_mels
        self.frames = self._total // HOP
        # Frames that begin behind the last sample hold padding alone: their power is 0, raised to 1e-10.
        self._sounding = min(self.frames, -(-(len(samples) + N_FFT // 2) // HOP))
        self._kept: list[Floats] | None = [] if n_mels * self._sounding * 4 <= KEPT_BYTES else None
        loudest = [np.zeros(0, np.float32)]
        for first in range(0, self._sounding, _BLOCK):
            block = self._compute(first)
            loudest.append(block.max(axis=0))
            if self._kept is not None:
                self._kept.append(block)
        self._loudest = np.concatenate(loudest)
        # In float32 numpy's log10(1e-10) is a hair below -10, torch's is not.
        self._floor = max(self._loudest.max(initial=-10) - np.float32(8), np.float32(-10))

    @property
    def seconds(self) -> float:
        """The duration of the recording in seconds, without the padding."""
        return len(self._samples) / SAMPLE_RATE

    def heard_from(self, frame: int) -> int:
        """Returns the first frame from `frame` on in which something is heard, which is always `frame`."""
        return frame

    @property
    def heard(self) -> npt.NDArray[np.bool_]:
        """Whether each frame before the padding is heard, which all are."""
        return np.ones(len(self.loudness), bool)

    @property
    def silence(self) -> float:
        """The value of a frame without any sound in all of its bands."""
        return float((self._floor + 4) / 4)

    @cached_property
    def loudness(self) -> Floats:
        """The loudness of the loudest band of each frame before the padding in dB, float32 [frames].

        That of silence is -60, or 80 less than that of the loudest frame.
        """
        frames = min(len(self._samples) // HOP, self.frames)
        loudest = np.full(frames, -10, np.float32)
        sounding = min(frames, self._sounding)
        loudest[:sounding] = self._loudest[:sounding]
        loudness: Floats = 10 * (np.maximum(loudest, self._floor) + 4)
        return loudness

    def part(self, first: int, last: int) -> Floats:
        """Returns the frames from `first` up to, without, `last`: float32 [n_mels, last - first]."""
        mel = np.full((self.n_mels, last - first), self._floor, np.float32)
        for start in range(first - first % _BLOCK, min(last, self._sounding), _BLOCK):
            block = self._compute(start) if self._kept is None else self._kept[start // _BLOCK]
            begin, end = max(first, start), min(last, start + block.shape[1])
            np.maximum(block[:, begin - start : end - start], self._floor, out=mel[:, begin - first : end - first])
        mel += 4
        mel /= 4
        return mel

    def _compute(self, first: int) -> Floats:
        """Returns log10 of the power of a block of frames, [n_mels, _BLOCK] or fewer."""
        last = min(first + _BLOCK, self._sounding)
        start = first * HOP - N_FFT // 2
        samples = _reflected(self._samples, self._total, start, start + (last - first - 1) * HOP + N_FFT)
        frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP]
        spectrum = np.fft.rfft(frames * _hann())  # complex64 [frames, 201]
        power = np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)
        block = np.zeros((self.n_mels, last - first), np.float32)
        for filters, frequencies, weights in _bands(self.n_mels):
            block[filters] = np.einsum("mf,mft->mt", weights, power[frequencies])
        np.maximum(block, 1e-10, out=block)
        return np.log10(block, out=block)


def log_mel(waveform: npt.NDArray[Any], n_mels: int, *, padding: int = 0) -> Floats:
    """Returns the log-mel spectrogram of a whole recording, which `LogMel` describes.

    Args:
        waveform: [samples] as `check_waveform` takes it, 16 kHz.
        n_mels: The number of mel bands.
        padding: The number of zero samples that are put behind the waveform; openai's `transcribe` puts 480000 (30 s)
            there.

    Returns:
        float32 [n_mels, (samples + padding) // 160].

    Raises:
        AudioError: `check_waveform` refuses the waveform, or it has fewer than 201 samples including the padding, which
            cannot be reflected (openai/whisper fails there too).
    """
    mel = LogMel(check_waveform(waveform), n_mels, padding=padding)
    return mel.part(0, mel.frames)


@cache
def _hann() -> Floats:
    """Returns the periodic Hann window (torch.hann_window), float32 [400]."""
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def _reflected(samples: Samples, total: int, start: int, stop: int) -> Floats:
    """Returns samples start … stop of a recording that is padded with zeros to `total` and reflected at both ends.

    The samples at the very ends are not repeated.
    """
    if start >= 0 and stop <= len(samples):
        return samples[start:stop]
    first, last = max(start, 0), min(stop + 1, total)  # sample 200 is the reflection of the first of frame 0
    part = samples[first : min(last, len(samples))]
    part = np.pad(part, (0, last - first - len(part)))
    reflected: Floats = np.pad(part, (first - start, max(stop - last, 0)), "reflect")[: stop - start]
    return reflected
