"""The mel filter bank of Whisper, which the runtime applies, and which checkpoints of some formats bring along."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

N_FFT = 400
"""The number of samples of a frame: 25 ms."""
_HIGHEST = 8000.0
"""The highest frequency in Hz, half of the sample rate."""


@cache
def mel_filters(n_mels: int) -> npt.NDArray[np.float32]:
    """Returns the filter bank of Slaney's Auditory Toolbox (1998) for 16 kHz and frames of 400 samples.

    The filters are n_mels triangles over 0-8000 Hz, whose corners are equally spaced on a scale that is linear (200/3
    Hz per mel) up to 1000 Hz and logarithmic (log(6.4)/27 per mel) above; each of area 1, that is, of height 2/(its
    width in Hz).
    The formula, and the one rounding to float32 on the way, are those of `librosa.filters.mel(sr=16000, n_fft=400)`,
    from which openai/whisper saved its mel_filters.npz.

    The result is float32 [n_mels, 201], read-only because it is shared.
    """
    linear, first_log, log_step = 200 / 3, 1000.0, np.log(6.4) / 27
    first_log_mel = first_log / linear
    last_mel = first_log_mel + np.log(_HIGHEST / first_log) / log_step
    mels = np.linspace(0.0, last_mel, n_mels + 2)
    corners = np.where(
        mels < first_log_mel, mels * linear, first_log * np.exp(log_step * (mels - first_log_mel))
    )  # Hz, [n_mels + 2]

    slopes = corners[:, None] - np.fft.rfftfreq(N_FFT, 1 / (2 * _HIGHEST))  # Hz, [n_mels + 2, 201]
    widths = np.diff(corners)[:, None]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    filters: npt.NDArray[np.float32] = (triangles * (2 / (corners[2:] - corners[:-2]))[:, None]).astype(np.float32)
    filters.flags.writeable = False
    return filters
