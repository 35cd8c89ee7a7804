"""Windows that are decoded by a `WindowDecoder` itself, with options for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from max.driver import Buffer
from max_whisper import DecodingOptions, DecodingResult, Model
from max_whisper.runtime.decoding.cancelling import never
from max_whisper.runtime.decoding.conflicts import check_decoding
from max_whisper.runtime.decoding.decoder import Decoder
from max_whisper.runtime.decoding.window_decoder import WindowDecoder
from max_whisper.runtime.results import Override


class Windows:
    """Sounds of at most one batch of a model, encoded. Options without a language are for English."""

    def __init__(self, model: Model, *sounds: np.ndarray) -> None:
        self.model = model
        self.features = np.asarray(model.encode(np.stack([model.log_mel(sound) for sound in sounds])))
        decoder = Decoder(model._artifact)
        rows = np.zeros((decoder.batch, *self.features.shape[1:]), np.float32)
        rows[: len(sounds)] = self.features
        self._cross_kv = decoder.cross_kv(Buffer.from_numpy(rows))
        self._decoder = WindowDecoder(decoder, model.manifest, model.tokenizer)

    def decode(self, *options: DecodingOptions, stop: Callable[[], bool] = never) -> list[DecodingResult]:
        """Returns the result of each window, with options for each, or with the same options for all."""
        rows = options * len(self.features) if len(options) == 1 else options
        for row in rows:
            check_decoding(row, self.model.manifest, self.model.tokenizer)
        return self._decoder.decode(self._cross_kv, [row.language or "en" for row in rows], rows, stop=stop)

    def explain(self, results: Sequence[DecodingResult], *options: DecodingOptions) -> list[list[Override]]:
        """Returns where another token than the argmax was chosen, for each window."""
        return self._decoder.explain(self._cross_kv, results, options)

    def logits(self, rows: Any) -> np.ndarray:
        """Returns logits [windows, length, n_vocab] by teacher forcing."""
        return self.model.logits(self.features, rows)
