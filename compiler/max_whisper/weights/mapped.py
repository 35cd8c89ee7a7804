"""Maps files of weights into memory, which are read as their tensors are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import WeightsError
from max_whisper.files import open_regular


def mapped_bytes(path: Path) -> NDArray[np.uint8]:
    """Returns the bytes of a regular file, uint8 [size]. Raises WeightsError for a file that cannot be read."""
    try:
        with open_regular(path) as file:
            return np.memmap(file, np.uint8, mode="r").view(np.ndarray)
    except (OSError, ValueError) as e:
        raise WeightsError(f"{path} cannot be read: {getattr(e, 'strerror', None) or e}") from e
