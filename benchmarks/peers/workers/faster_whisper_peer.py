"""The peer faster-whisper, which runs CTranslate2."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.greedy import Rules, padded
from benchmarks.peers.worker import Peer, peer_main


def convert(checkpoint: Path, models: Path) -> None:
    """Writes one model in float32; loading it as int8 rounds it."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(checkpoint)).convert(str(models / "model"), force=True)
    for name in ("tokenizer.json", "preprocessor_config.json"):
        shutil.copy(checkpoint / name, models / "model")


class FasterWhisper(Peer):
    """Runs the parts of faster-whisper's WhisperModel; `variant` is the compute type."""

    def __init__(self, checkpoint: Path, models: Path, variant: str, threads: int) -> None:
        from faster_whisper import WhisperModel

        self._model = WhisperModel(str(models / "model"), device="cpu", compute_type=variant, cpu_threads=threads)
        self._prompt = Rules(checkpoint).prompt

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("faster-whisper", "ctranslate2")}

    def log_mel(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        # padding=0 and the cut are those of its own `transcribe`. It would pad a shorter mel with zeros, which are not
        # silence, and would give other tokens.
        mels = [self._model.feature_extractor(waveform, padding=0, chunk_length=None) for waveform in padded(waveforms)]
        return np.stack([mel[:, :3000] for mel in mels])

    def encode(self, mel: NDArray[np.float32]) -> Any:
        return self._model.encode(mel)

    def decode(self, features: Any, n_tokens: int) -> list[list[int]]:
        prompts = [self._prompt] * features.shape[0]
        length = max(2 * n_tokens, len(self._prompt) + n_tokens)  # counts the prompt, and gives half of it
        results = self._model.model.generate(
            features, prompts, beam_size=1, max_length=length, suppress_tokens=[-1], suppress_blank=True
        )
        return [result.sequences_ids[0] for result in results]


if __name__ == "__main__":
    peer_main(FasterWhisper, convert)
