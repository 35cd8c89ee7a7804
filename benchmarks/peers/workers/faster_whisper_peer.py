"""The engine faster-whisper, which runs CTranslate2: its WhisperModel, and its BatchedInferencePipeline around that.

The batched pipeline cuts a recording where its voice activity detection finds a pause, or without that every 30 s, and
decodes several windows at once; it has no text before a window.
"""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.worker import BEAMS, Heard, Peer, peer_main

BATCHED = "batched-"
BATCH = 8  # windows; the default of the batched pipeline


def convert(checkpoint: Path, models: Path) -> None:
    """Writes one model in float32; loading it as int8 rounds it."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(checkpoint)).convert(str(models / "model"), force=True)
    for name in ("tokenizer.json", "preprocessor_config.json"):
        shutil.copy(checkpoint / name, models / "model")


class FasterWhisper(Peer):
    """Runs a WhisperModel; `variant` is the compute type, with a prefix for the batched pipeline."""

    def __init__(self, models: Path, variant: str, threads: int) -> None:
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        self._batched, compute_type = variant.startswith(BATCHED), variant.removeprefix(BATCHED)
        self._model = WhisperModel(str(models / "model"), device="cpu", compute_type=compute_type, cpu_threads=threads)
        self._transcribe = (BatchedInferencePipeline(self._model) if self._batched else self._model).transcribe
        self._made = f"WhisperModel(model, device='cpu', compute_type={compute_type!r}, cpu_threads={threads})"
        self._tokens = 0

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("faster-whisper", "ctranslate2")}

    def call(self) -> str:
        made = f"BatchedInferencePipeline({self._made})" if self._batched else self._made
        return f"list({made}.transcribe(audio{{}}))"

    def arguments(self, mode: str, language: str) -> dict[str, Any]:
        # The batched pipeline finds by voice activity detection where to cut a recording: it is on by default there.
        only = {"batch_size": BATCH} if self._batched else {"condition_on_previous_text": mode == "previous"}
        return {
            "language": language,
            "beam_size": BEAMS if mode == "beams" else 1,
            "temperature": 0.0,
            "vad_filter": self._batched,
            "word_timestamps": mode == "words",
            **only,
        }

    def window_arguments(self, n_tokens: int) -> dict[str, Any]:
        # faster-whisper adds the length of the prompt, and CTranslate2 gives half of the sum
        length = 2 * n_tokens - (4 if self._model.model.is_multilingual else 2)
        options = {"without_timestamps": True, "no_speech_threshold": None, "max_new_tokens": length}
        return {**self.arguments("plain", "en"), **options}

    def transcribe(self, waveform: NDArray[np.float32], arguments: dict[str, Any]) -> Heard:
        segments = list(self._transcribe(waveform, **arguments)[0])
        self._tokens = sum(len(segment.tokens) for segment in segments)
        words = [word for segment in segments for word in segment.words or ()]
        text = "".join(segment.text for segment in segments)
        return Heard(text, len(words) if arguments["word_timestamps"] else None)

    def encoder(self, waveform: NDArray[np.float32]) -> float:
        mel = self._model.feature_extractor(waveform)[:, :3000]
        start = perf_counter()
        self._model.encode(mel)
        return perf_counter() - start

    def tokens(self) -> int:
        return self._tokens


if __name__ == "__main__":
    peer_main(lambda _checkpoint, models, variant, threads, _mode: FasterWhisper(models, variant, threads), convert)
