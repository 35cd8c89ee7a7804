"""The engine max-whisper, with an artifact that `max-whisper build` made for one recording at a time."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import max_whisper
import numpy as np
from max_whisper.tensors.dtypes import BUILD_DTYPES
from numpy.typing import NDArray

from benchmarks.peers.conversion import spec_of
from benchmarks.peers.worker import BEAMS, Heard, Peer, multilingual, peer_main


def convert(checkpoint: Path, models: Path) -> None:
    """Builds an artifact of each dtype, which takes seconds where MAX has compiled the model before."""
    for dtype in BUILD_DTYPES:
        max_whisper.build(spec_of(checkpoint), weights=checkpoint, out=models / dtype, dtype=dtype)


class MaxWhisper(Peer):
    """Runs a loaded artifact."""

    CALL = "max_whisper.load(artifact).transcribe(audio{})"

    def __init__(self, checkpoint: Path, models: Path, variant: str) -> None:
        self._model = max_whisper.load(models / variant)
        self._multilingual = multilingual(checkpoint)
        self._tokens = 0

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("max-whisper", "max")}

    def arguments(self, mode: str, language: str) -> dict[str, Any]:
        return {
            **({"language": language} if self._multilingual else {}),
            "temperature": 0.0,
            "condition_on_previous_text": mode == "previous",
            "word_timestamps": mode == "words",
            "beam_size": BEAMS if mode == "beams" else None,
        }

    def window_arguments(self, n_tokens: int) -> dict[str, Any]:
        return {
            **self.arguments("plain", "en"),
            "without_timestamps": True,
            "max_new_tokens": n_tokens,
            "no_speech_threshold": None,
        }

    def transcribe(self, waveform: NDArray[np.float32], arguments: dict[str, Any]) -> Heard:
        result = self._model.transcribe(waveform, **arguments)
        self._tokens = sum(len(segment.tokens) for segment in result.segments)
        words = [word for segment in result.segments for word in segment.words or ()]
        return Heard(result.text, len(words) if arguments["word_timestamps"] else None)

    def encoder(self, waveform: NDArray[np.float32]) -> float:
        mel = self._model.windows(waveform)[:1]
        start = perf_counter()
        self._model.encode(mel)
        return perf_counter() - start

    def tokens(self) -> int:
        return self._tokens


if __name__ == "__main__":
    peer_main(lambda checkpoint, models, variant, _threads, _mode: MaxWhisper(checkpoint, models, variant), convert)
