"""The peer max-whisper, with an artifact."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
from max_whisper.runtime.features import Features, WindowFeatures
from numpy.typing import NDArray

from benchmarks.peers.worker import Peer, peer_main


class MaxWhisper(Peer):
    """Runs a loaded artifact."""

    def __init__(self, artifact: Path) -> None:
        self._model = max_whisper.load(artifact)
        self.batched = self._model.manifest.plan.batch > 1

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("max-whisper", "max")}

    def log_mel(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([self._model.windows(waveform)[0] for waveform in waveforms])

    def encode(self, mel: NDArray[np.float32]) -> Any:
        return self._model.encode(mel)

    def decode(self, features: Any, n_tokens: int) -> list[list[int]]:
        # The keys and values of the cross-attention are kept for the next request with the same windows. These are
        # other ones, so that every decoding computes them, as the other peers do.
        fresh = Features([WindowFeatures(window.chunk, window.row) for window in features.windows])
        results = self._model.decode(fresh, language="en", without_timestamps=True, max_new_tokens=n_tokens)
        return [result.tokens for result in results]


if __name__ == "__main__":
    peer_main(lambda _checkpoint, artifact, _variant, _threads: MaxWhisper(artifact))
