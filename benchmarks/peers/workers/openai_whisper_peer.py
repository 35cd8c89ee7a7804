"""The peer openai/whisper, in float32."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import whisper
from numpy.typing import NDArray
from safetensors.torch import load_file
from whisper.model import ModelDimensions

from benchmarks.peers.worker import Peer, peer_main


class OpenaiWhisper(Peer):
    """Runs openai/whisper's log_mel_spectrogram, encoder and `decode`, with the tensors that conversion.py renamed."""

    def __init__(self, models: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._model = whisper.Whisper(ModelDimensions(**json.loads((models / "dims.json").read_text())))
        self._model.load_state_dict(load_file(models / "model.safetensors"))
        self._model.eval()

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("openai-whisper", "torch")}

    def log_mel(self, waveforms: NDArray[np.float32]) -> torch.Tensor:
        n_mels = self._model.dims.n_mels
        padded = [whisper.pad_or_trim(waveform) for waveform in waveforms]
        return torch.stack([whisper.log_mel_spectrogram(waveform, n_mels) for waveform in padded])

    def encode(self, mel: torch.Tensor) -> torch.Tensor:
        return self._model.encoder(mel)

    def decode(self, features: torch.Tensor, n_tokens: int) -> list[list[int]]:
        options = whisper.DecodingOptions(language="en", without_timestamps=True, sample_len=n_tokens, fp16=False)
        return [result.tokens for result in whisper.decode(self._model, features, options)]


if __name__ == "__main__":
    peer_main(lambda _checkpoint, models, _variant, threads: OpenaiWhisper(models, threads))
