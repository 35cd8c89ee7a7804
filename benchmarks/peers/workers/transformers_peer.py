"""The peer transformers, in float32 or bfloat16."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.peers.worker import Peer, peer_main


class Transformers(Peer):
    """Runs transformers' feature extractor, encoder and `generate`; `variant` is the dtype."""

    def __init__(self, checkpoint: Path, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._extractor = WhisperFeatureExtractor.from_pretrained(checkpoint)
        self._model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=getattr(torch, variant)).eval()
        multilingual = self._model.generation_config.is_multilingual
        self._language = {"language": "en", "task": "transcribe"} if multilingual else {}

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("transformers", "torch")}

    def log_mel(self, waveforms: NDArray[np.float32]) -> torch.Tensor:
        return self._extractor(list(waveforms), sampling_rate=16_000, return_tensors="pt").input_features

    def encode(self, mel: torch.Tensor) -> BaseModelOutput:
        return self._model.model.encoder(mel.to(self._model.dtype))

    def decode(self, features: BaseModelOutput, n_tokens: int) -> list[list[int]]:
        ids = self._model.generate(encoder_outputs=features, max_new_tokens=n_tokens, do_sample=False, **self._language)
        return ids[:, -n_tokens:].tolist()


if __name__ == "__main__":
    peer_main(lambda checkpoint, _models, variant, threads: Transformers(checkpoint, variant, threads))
