"""Makes tests/golden/mel.npz: openai/whisper's own log-mel of the sounds of `golden_sounds`.

    pip install openai-whisper==20250625
    PYTHONPATH=tests:. python tests/golden/make_mel.py

It is run by hand; the tests do not need openai-whisper.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from support.sounds import int16, noise, sweep

GOLDEN = Path(__file__).parent / "mel.npz"


def golden_sounds() -> dict[str, tuple[npt.NDArray[np.int16], int]]:
    """Returns int16 samples, and the number of zeros after them, by name. As integers they are the same everywhere."""
    buzz = sum(np.sin(2 * np.pi * 120 * k * np.arange(20000) / 16000 + k) / k for k in range(1, 30))
    quiet = np.concatenate([int16(noise(0.4, seed=1) * 0.001), int16(noise(0.4, seed=2)), np.zeros(3333, np.int16)])
    return {
        "sweep": (int16(sweep(1.0)), 0),
        "buzz": (int16(0.2 * np.asarray(buzz, np.float32)), 1600),
        "quiet, loud, silent": (quiet, 100),
    }


def main() -> None:
    from whisper.audio import log_mel_spectrogram

    spectra = {
        f"{name} {n_mels}": log_mel_spectrogram(samples.astype(np.float32) / 32768, n_mels, padding).numpy()
        for name, (samples, padding) in golden_sounds().items()
        for n_mels in (80, 128)
    }
    np.savez_compressed(GOLDEN, **spectra)
    print(GOLDEN, GOLDEN.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
