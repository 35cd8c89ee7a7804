"""What transformers and ONNX Runtime by optimum share: the pipeline for speech recognition of transformers.

It imports them where it uses them: a test of this project imports it without.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.worker import Heard, Peer, multilingual


class HuggingFacePipeline(Peer):
    """Runs `pipeline("automatic-speech-recognition")`; a recording longer than 30 s takes Whisper's sequential form."""

    CALL = "pipeline('automatic-speech-recognition', model=model, …)({'raw': audio, 'sampling_rate': 16000}{})"
    LIBRARIES: ClassVar[tuple[str, ...]]
    """The packages whose versions are told."""

    def __init__(self, checkpoint: Path, model: Any) -> None:
        from transformers import AutoProcessor, pipeline

        processor = AutoProcessor.from_pretrained(checkpoint)
        self._extractor, self._model = processor.feature_extractor, model
        self._pipeline = pipeline(
            "automatic-speech-recognition",
            model=model,
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
        )
        self._multilingual = multilingual(checkpoint)

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in self.LIBRARIES}

    def arguments(self, mode: str, language: str) -> dict[str, Any]:
        options: dict[str, Any] = {"temperature": 0.0, "num_beams": 1, "condition_on_prev_tokens": mode == "previous"}
        if self._multilingual:
            options |= {"language": language, "task": "transcribe"}
        return {"return_timestamps": "word" if mode == "words" else True, "generate_kwargs": options}

    def window_arguments(self, n_tokens: int) -> dict[str, Any]:
        options = self.arguments("plain", "en")["generate_kwargs"] | {"max_new_tokens": n_tokens}
        del options["condition_on_prev_tokens"]  # of the long form alone
        return {"generate_kwargs": options}

    def transcribe(self, waveform: NDArray[np.float32], arguments: dict[str, Any]) -> Heard:
        # The pipeline takes the options for `generate` out of the dictionary that it is given.
        given = arguments | {"generate_kwargs": dict(arguments["generate_kwargs"])}
        result = self._pipeline({"raw": waveform, "sampling_rate": 16_000}, **given)
        words = len(result["chunks"]) if arguments.get("return_timestamps") == "word" else None
        return Heard(result["text"], words)

    def encoder(self, waveform: NDArray[np.float32]) -> float:
        import torch

        mel = self._extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_features
        start = perf_counter()
        with torch.no_grad():
            self._model.get_encoder()(mel.to(self._model.dtype))
        return perf_counter() - start
