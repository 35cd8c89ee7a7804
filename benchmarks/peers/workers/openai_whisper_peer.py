"""The engine openai/whisper, unchanged, with the tensors that conversion.py renamed."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import whisper
from numpy.typing import NDArray
from safetensors.torch import load_file
from whisper.model import ModelDimensions

from benchmarks.peers.worker import BEAMS, Heard, Peer, peer_main


class OpenaiWhisper(Peer):
    """Runs `Whisper.transcribe`."""

    CALL = "model.transcribe(audio{})"

    def __init__(self, models: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        described = json.loads((models / "model.json").read_text())
        self._model = whisper.Whisper(ModelDimensions(**described["dims"]))
        self._model.load_state_dict(load_file(models / "model.safetensors"))
        self._model.eval()
        if heads := described["alignment_heads"]:  # which `whisper.load_model` sets for the models it downloads
            mask = torch.zeros(self._model.dims.n_text_layer, self._model.dims.n_text_head, dtype=torch.bool)
            mask[tuple(zip(*heads, strict=True))] = True
            self._model.register_buffer("alignment_heads", mask.to_sparse(), persistent=False)
        self._tokens = 0

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("openai-whisper", "torch")}

    def arguments(self, mode: str, language: str) -> dict[str, Any]:
        return {
            "language": language,
            "temperature": 0.0,
            "condition_on_previous_text": mode == "previous",
            "word_timestamps": mode == "words",
            "beam_size": BEAMS if mode == "beams" else None,
            "fp16": False,
        }

    def window_arguments(self, n_tokens: int) -> dict[str, Any]:
        options = {"without_timestamps": True, "no_speech_threshold": None, "sample_len": n_tokens}
        return {**self.arguments("plain", "en"), **options}

    def transcribe(self, waveform: NDArray[np.float32], arguments: dict[str, Any]) -> Heard:
        result = self._model.transcribe(waveform, **arguments)
        self._tokens = sum(len(segment["tokens"]) for segment in result["segments"])
        words = [word for segment in result["segments"] for word in segment.get("words", ())]
        return Heard(result["text"], len(words) if arguments["word_timestamps"] else None)

    def encoder(self, waveform: NDArray[np.float32]) -> float:
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(waveform), self._model.dims.n_mels)
        start = perf_counter()
        self._model.embed_audio(mel[None])
        return perf_counter() - start

    def tokens(self) -> int:
        return self._tokens


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    peer_main(lambda _checkpoint, models, _variant, threads, _mode: OpenaiWhisper(models, threads))
