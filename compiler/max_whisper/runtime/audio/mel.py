"""Waveform -> log-mel spectrogram, as openai/whisper makes it (whisper/audio.py, `log_mel_spectrogram`); numpy only."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from max_whisper.errors import AudioError
from max_whisper.runtime.audio.waveform import SAMPLE_RATE, check_waveform

N_FFT = 400
"""Samples of one frame: 25 ms."""
HOP = 160
"""Samples from one frame to the next: 10 ms."""
FRAMES_PER_SECOND = SAMPLE_RATE // HOP

KEPT = 32 << 20
"""Bytes of a spectrogram that are kept: those of ten minutes."""
_BLOCK = 128  # frames at once: their spectra (0.2 MB) stay in the cache, which is faster than any larger block

Floats = npt.NDArray[np.float32]


@cache
def mel_filters(n_mels: int) -> Floats:
    """The filter bank of Slaney's Auditory Toolbox (1998) for 16 kHz and frames of 400 samples.

    n_mels triangles over 0-8000 Hz, whose corners are equally spaced on a scale that is linear (200/3 Hz per mel) up
    to 1000 Hz and logarithmic (log(6.4)/27 per mel) above; each of area 1, that is, of height 2/(its width in Hz).
    The formula, and the one rounding to float32 on the way, are those of `librosa.filters.mel(sr=16000, n_fft=400)`,
    from which openai/whisper saved its mel_filters.npz.

    Returns float32 [n_mels, 201], read-only because it is shared.
    """
    linear, first_log, log_step = 200 / 3, 1000.0, np.log(6.4) / 27
    first_log_mel = first_log / linear
    last_mel = first_log_mel + np.log(SAMPLE_RATE / 2 / first_log) / log_step
    mels = np.linspace(0.0, last_mel, n_mels + 2)
    corners = np.where(
        mels < first_log_mel, mels * linear, first_log * np.exp(log_step * (mels - first_log_mel))
    )  # Hz, [n_mels + 2]

    slopes = corners[:, None] - np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)  # Hz, [n_mels + 2, 201]
    widths = np.diff(corners)[:, None]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters: Floats = (triangles * (2 / (corners[2:] - corners[:-2]))[:, None]).astype(np.float32)
    filters.flags.writeable = False
    return filters


@cache
def _bands(n_mels: int) -> tuple[npt.NDArray[np.intp], Floats, npt.NDArray[np.intp]]:
    """The frequencies that the filters see, filter by filter, their weights, and where each filter begins.

    A filter sees a few frequencies that are neighbours. A product with the matrix would be done by threads of numpy's
    BLAS, which then wait for more with all their might: the encoder, which comes next, took 145 ms instead of 90.
    """
    filters = mel_filters(n_mels)
    bands = [np.flatnonzero(each) if each.any() else np.zeros(1, np.intp) for each in filters]
    weights = np.concatenate([each[band] for each, band in zip(filters, bands, strict=True)])
    ends = np.cumsum([len(band) for band in bands])
    return np.concatenate(bands), weights, np.concatenate([[0], ends[:-1]])


class Samples(Protocol):
    """16 kHz mono, full scale 1.0: an array, or an `audio.Recording`, which need not be in memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Floats: ...


class LogMel:
    """The log-mel spectrogram of a recording, of which any part can be had.

    Frames of 400 samples every 160, centred at 0, 160, …, with the ends of the (padded) waveform reflected; periodic
    Hann window; power spectrum; mel filters; log10 of at least 1e-10; raised to at least the maximum of the whole
    spectrogram - 8; (x + 4) / 4. The frame centred at the very end is dropped. Silence gives -1.5 everywhere.

    The maximum of the whole is found first. What is computed for it is kept up to KEPT bytes; of a longer recording
    the parts are computed again when they are asked for, in the same blocks and so with equal bits, and ten hours take
    no more memory than ten minutes.
    """

    def __init__(self, samples: Samples, n_mels: int, *, padding: int = 0) -> None:
        """padding: zero samples behind the recording, as for `log_mel`, which names the errors as well."""
        self._samples = samples
        self._total = len(samples) + padding
        if self._total <= N_FFT // 2:
            raise AudioError(
                f"the waveform has {self._total} samples ({1000 * self._total / SAMPLE_RATE:g} ms), expected at least "
                f"{N_FFT // 2 + 1} for one frame: give more sound, or padding"
            )
        self.n_mels = n_mels
        self.frames = self._total // HOP
        # Frames that begin behind the last sample hold only padding: their power is 0, raised to 1e-10.
        self._sounding = min(self.frames, -(-(len(samples) + N_FFT // 2) // HOP))
        self._kept: list[Floats] | None = [] if n_mels * self._sounding * 4 <= KEPT else None
        loudest = -10.0
        for first in range(0, self._sounding, _BLOCK):
            block = self._compute(first)
            loudest = max(loudest, float(block.max()))
            if self._kept is not None:
                self._kept.append(block)
        # In float32 numpy's log10(1e-10) is a hair below -10, torch's is not.
        self._floor = max(np.float32(loudest) - np.float32(8), np.float32(-10))

    @property
    def seconds(self) -> float:
        """Of the recording, without the padding."""
        return len(self._samples) / SAMPLE_RATE

    def part(self, first: int, last: int) -> Floats:
        """Float32 [n_mels, last - first]: some frames."""
        mel = np.full((self.n_mels, last - first), -10.0, np.float32)
        for start in range(first - first % _BLOCK, min(last, self._sounding), _BLOCK):
            block = self._compute(start) if self._kept is None else self._kept[start // _BLOCK]
            begin, end = max(first, start), min(last, start + block.shape[1])
            mel[:, begin - first : end - first] = block[:, begin - start : end - start]
        np.maximum(mel, self._floor, out=mel)
        mel += 4
        mel /= 4
        return mel

    def _compute(self, first: int) -> Floats:
        """Log10 of the power of a block of frames, [n_mels, _BLOCK] or fewer."""
        last = min(first + _BLOCK, self._sounding)
        start = first * HOP - N_FFT // 2
        samples = _reflected(self._samples, self._total, start, start + (last - first - 1) * HOP + N_FFT)
        frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP]
        spectrum = np.fft.rfft(frames * _hann())  # complex64 [frames, 201]
        power = spectrum.real**2 + spectrum.imag**2
        frequencies, weights, starts = _bands(self.n_mels)
        energy = np.add.reduceat(power[:, frequencies] * weights, starts, axis=1).T
        block: Floats = np.log10(np.maximum(energy, 1e-10))
        return block


def log_mel(waveform: npt.NDArray[Any], n_mels: int, *, padding: int = 0) -> Floats:
    """The log-mel spectrogram of a whole recording, see `LogMel`.

    waveform: [samples] as `check_waveform` takes it, 16 kHz.
    padding: zero samples put behind the waveform first. openai's `transcribe` puts 480000 (30 s) there.
    Returns float32 [n_mels, (samples + padding) // 160].

    Raises AudioError for what `check_waveform` refuses, and for fewer than 201 samples including the padding, which
    cannot be reflected (openai/whisper fails there too).
    """
    mel = LogMel(check_waveform(waveform), n_mels, padding=padding)
    return mel.part(0, mel.frames)


@cache
def _hann() -> Floats:
    """The periodic Hann window (torch.hann_window): float32 [400]."""
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def _reflected(samples: Samples, total: int, start: int, stop: int) -> Floats:
    """Samples start … stop of a recording padded with zeros to total and reflected at both ends, which stand once."""
    if start >= 0 and stop <= len(samples):
        return samples[start:stop]
    at = np.abs(np.arange(start, stop))
    at = total - 1 - np.abs(total - 1 - at)
    sound = at < len(samples)
    first = int(at.min(initial=len(samples) - 1, where=sound))
    part = samples[first : int(at.max(initial=first, where=sound)) + 1]
    reflected: Floats = np.where(sound, part[np.where(sound, at - first, 0)], np.float32(0))
    return reflected
