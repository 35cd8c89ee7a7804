"""The formats of live sound: 16-bit samples, and G.711 as telephones have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PCM, MU_LAW, A_LAW = "audio/pcm", "audio/pcmu", "audio/pcma"
FORMATS = (PCM, MU_LAW, A_LAW)
PCM_RATE = 24_000
"""The only rate of OpenAI's own service for `audio/pcm`."""
LOWEST_RATE, HIGHEST_RATE = 8_000, 96_000
G711_RATE = 8_000


@dataclass(frozen=True)
class SoundFormat:
    """The format of the sound that a client sends, which has one channel.

    Attributes:
        kind: One of FORMATS.
        rate: The samples of a second.
    """

    kind: str = PCM
    rate: int = PCM_RATE

    @property
    def width(self) -> int:
        """The bytes of a sample."""
        return 2 if self.kind == PCM else 1

    @property
    def bytes_per_second(self) -> int:
        """The bytes of a second of sound."""
        return self.rate * self.width

    def chunk(self, data: bytes) -> NDArray[np.int16] | bytes:
        """Returns sound as `Stream.feed` takes it: int16 [samples], or the bytes of s16le."""
        if self.kind == PCM:
            return data
        samples: NDArray[np.int16] = _TABLES[self.kind][np.frombuffer(data, np.uint8)]
        return samples

    def json(self) -> dict[str, object]:
        """Returns the format as sessions have it."""
        return {"type": self.kind, **({"rate": self.rate} if self.kind == PCM else {})}


def _mu_law() -> NDArray[np.int16]:
    """Returns the sample of each byte of mu-law, by ITU-T G.711: a sign, 3 bits of a power, 4 of a step."""
    inverted = ~np.arange(256) & 0xFF
    power, step = inverted >> 4 & 7, inverted & 15
    size = ((step << 3) + 0x84 << power) - 0x84
    return np.where(inverted & 0x80, -size, size).astype(np.int16)


def _a_law() -> NDArray[np.int16]:
    """Returns the sample of each byte of A-law, by the formula of ITU-T G.711; every second bit is sent inverted."""
    inverted = np.arange(256) ^ 0x55
    power, step = inverted >> 4 & 7, inverted & 15
    size = np.where(power == 0, (step << 4) + 8, (step << 4) + 0x108 << np.maximum(power - 1, 0))
    return np.where(inverted & 0x80, size, -size).astype(np.int16)


_TABLES = {MU_LAW: _mu_law(), A_LAW: _a_law()}
