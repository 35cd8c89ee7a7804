"""Waveform -> log-mel spectrogram, as openai/whisper makes it (whisper/audio.py, `log_mel_spectrogram`); numpy only."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from max_whisper.errors import AudioError
from max_whisper.runtime.audio import SAMPLE_RATE, check_waveform

N_FFT = 400
"""Samples of one frame: 25 ms."""
HOP = 160
"""Samples from one frame to the next: 10 ms."""

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


def log_mel(waveform: npt.NDArray[Any], n_mels: int, *, padding: int = 0) -> Floats:
    """The log-mel spectrogram of a whole recording.

    waveform: [samples] as `check_waveform` takes it, 16 kHz.
    padding: zero samples put behind the waveform first. openai's `transcribe` puts 480000 (30 s) there.
    Returns float32 [n_mels, (samples + padding) // 160].

    Frames of 400 samples every 160, centred at 0, 160, …, with the ends of the (padded) waveform reflected; periodic
    Hann window; power spectrum; mel filters; log10 of at least 1e-10; raised to at least the maximum of the whole
    spectrogram - 8; (x + 4) / 4. The frame centred at the very end is dropped. Silence gives -1.5 everywhere.

    Raises AudioError for what `check_waveform` refuses, and for fewer than 201 samples including the padding, which
    cannot be reflected (openai/whisper fails there too).
    """
    waveform = check_waveform(waveform)
    total = len(waveform) + padding
    if total <= N_FFT // 2:
        raise AudioError(
            f"the waveform has {total} samples ({1000 * total / SAMPLE_RATE:g} ms), expected at least "
            f"{N_FFT // 2 + 1} for one frame: give more sound, or padding"
        )
    filters, window = mel_filters(n_mels), _hann()
    mel = np.full((n_mels, total // HOP), -10.0, np.float32)
    # Frames that begin behind the last sample hold only padding: their power is 0, raised to 1e-10.
    sounding = min(mel.shape[1], -(-(len(waveform) + N_FFT // 2) // HOP))
    for first in range(0, sounding, _BLOCK):
        last = min(first + _BLOCK, sounding)
        start = first * HOP - N_FFT // 2
        samples = _reflected(waveform, total, start, start + (last - first - 1) * HOP + N_FFT)
        frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP]
        spectrum = np.fft.rfft(frames * window)  # complex64 [frames, 201]
        power = spectrum.real**2 + spectrum.imag**2
        np.log10(np.maximum(filters @ power.T, 1e-10), out=mel[:, first:last])
    # In float32 numpy's log10(1e-10) is a hair below -10, torch's is not.
    np.maximum(mel, max(mel.max() - 8, -10.0), out=mel)
    mel += 4
    mel /= 4
    return mel


@cache
def _hann() -> Floats:
    """The periodic Hann window (torch.hann_window): float32 [400]."""
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def _reflected(waveform: Floats, total: int, start: int, stop: int) -> Floats:
    """Samples start … stop of the waveform padded with zeros to total, and reflected at both ends (not repeating them).

    Only the blocks at the ends are copied, so that an hour of audio needs no second copy in memory.
    """
    if start >= 0 and stop <= len(waveform):
        return waveform[start:stop]
    at = np.abs(np.arange(start, stop))
    at = total - 1 - np.abs(total - 1 - at)
    samples: Floats = np.where(at < len(waveform), waveform[np.minimum(at, len(waveform) - 1)], np.float32(0))
    return samples
