"""The encoder's output, which stays on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.process import inside_max


class Chunk:
    """The features of windows that were encoded at once, on the device: float32 [batch, n_audio_ctx, d_model].

    Where fewer windows than the batch were encoded, the last rows are padding.
    """

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        inside_max.keep_in_forks(self)


class WindowFeatures:
    """The features of one window: a row of a chunk. numpy.asarray copies them as float32 [n_audio_ctx, d_model].

    Attributes:
        kept: What the executor keeps for the next request: the windows of a batch that begins with this one, and the
            keys and values of its cross-attentions.
    """

    def __init__(self, chunk: Chunk, row: int) -> None:
        self.chunk = chunk
        self.row = row
        self.kept: tuple[list[ref[WindowFeatures]], list[Buffer]] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.chunk.buffer.to_numpy()[self.row], dtype or np.float32)


class Features:
    """The encoder's output for some windows: float32 [windows, n_audio_ctx, d_model].

    numpy.asarray copies it to the host.

    Attributes:
        windows: The features of each window.
        shape: The shape as an array.
    """

    def __init__(self, windows: Sequence[WindowFeatures]) -> None:
        self.windows = windows
        self.shape: tuple[int, ...] = (len(windows), *windows[0].chunk.buffer.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.stack([np.asarray(window, dtype) for window in self.windows])

    def __len__(self) -> int:
        return len(self.windows)
