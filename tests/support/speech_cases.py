"""The cases of tests/golden/speech_parts.json: probabilities of speech, and settings with faster-whisper's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden" / "speech_parts.json"
SAMPLES = 512
"""The samples of a chunk."""


@dataclass(frozen=True)
class Case:
    probabilities: np.ndarray
    settings: dict[str, Any]


def cases(count: int = 300) -> Iterator[Case]:
    """Yields cases without a longest duration, in which faster-whisper leaves out speech."""
    rng = np.random.default_rng(17)
    for _ in range(count):
        threshold = float(rng.choice([0.05, 0.3, 0.5, 0.8]))
        yield Case(
            _probabilities(rng, int(rng.integers(1, 400))),
            {
                "threshold": threshold,
                "neg_threshold": [None, threshold / 2, threshold][rng.integers(3)],
                "min_speech_duration_ms": int(rng.choice([0, 100, 250, 1000])),
                "min_silence_duration_ms": int(rng.choice([0, 31, 32, 100, 500, 2000])),
                "speech_pad_ms": int(rng.choice([0, 30, 400, 1000])),
            },
        )


def _probabilities(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns probabilities that change at every chunk, every eighth, or every sixtieth."""
    length = int(rng.choice([1, 8, 60]))
    steady = np.repeat(rng.random(count // length + 1), length)[:count]
    return np.clip(steady + rng.normal(0, 0.1, count), 0, 1).astype(np.float32)
