"""The engine OpenVINO GenAI: its own WhisperPipeline, with models as `optimum-cli export openvino` writes them.

In its long form it has no text before a window. bfloat16 is its default where the CPU has instructions for it.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.worker import Heard, Peer, multilingual, peer_main

WEIGHTS = {"int8": "int8", "bfloat16": "fp32", "float32": "fp32"}
"""optimum's name for the weights of each variant."""
PRECISION = {"float32": {"INFERENCE_PRECISION_HINT": "f32"}}
"""What is not left at its default."""


def convert(checkpoint: Path, models: Path) -> None:
    """Exports the checkpoint with float32 weights, and with int8 weights as the models of OpenVINO on the Hub have."""
    for weights in sorted(set(WEIGHTS.values())):
        cli = Path(sys.executable).with_name("optimum-cli")
        task = ["--task", "automatic-speech-recognition-with-past"]
        command = [cli, "export", "openvino", "--model", checkpoint, *task, "--weight-format", weights]
        subprocess.run([*command, models / weights], check=True)


class OpenVinoGenai(Peer):
    """Runs a WhisperPipeline."""

    CALL = "WhisperPipeline(model, 'CPU'{properties}).generate(audio{})"

    def __init__(self, checkpoint: Path, models: Path, variant: str, threads: int, mode: str) -> None:
        import openvino_genai

        properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, **PRECISION.get(variant, {})}
        if mode == "words":
            properties["word_timestamps"] = True
        self._pipeline = openvino_genai.WhisperPipeline(models / WEIGHTS[variant], "CPU", **properties)
        self._properties = "".join(f", {name}={value!r}" for name, value in properties.items())
        self._multilingual = multilingual(checkpoint)
        self._metrics: Any = None

    def versions(self) -> dict[str, str]:
        import openvino

        names = ("openvino-genai", "openvino", "openvino-tokenizers")
        default = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
        return {**{name: version(name) for name in names}, "default precision here": default}

    def call(self) -> str:
        return self.CALL.replace("{properties}", self._properties)

    def arguments(self, mode: str, language: str) -> dict[str, Any]:
        return {
            **({"language": f"<|{language}|>", "task": "transcribe"} if self._multilingual else {}),
            "return_timestamps": True,
            **({"word_timestamps": True} if mode == "words" else {}),
        }

    def window_arguments(self, n_tokens: int) -> dict[str, Any]:
        return {**self.arguments("plain", "en"), "return_timestamps": False, "max_new_tokens": n_tokens}

    def transcribe(self, waveform: NDArray[np.float32], arguments: dict[str, Any]) -> Heard:
        result = self._pipeline.generate(waveform, **arguments)
        self._metrics = result.perf_metrics
        return Heard(result.texts[0], len(result.words or ()) if arguments.get("word_timestamps") else None)

    def encoder(self, waveform: NDArray[np.float32]) -> float:
        return float(self._metrics.get_encode_inference_duration().mean) / 1e3

    def tokens(self) -> int:
        return int(self._metrics.get_num_generated_tokens())


if __name__ == "__main__":
    peer_main(OpenVinoGenai, convert)
