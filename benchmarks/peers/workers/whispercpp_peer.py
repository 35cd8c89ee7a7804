"""The engine whisper.cpp, by pywhispercpp's Model, with files that ggml.py wrote.

`no_context` keeps calls apart; `n_max_text_ctx` says whether a window reads the text before. Times of words are those
of whisper.cpp's `-ml 1 -sow`: estimated from timestamps and loudness, not from attention.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import _pywhispercpp
import numpy as np
from numpy.typing import NDArray
from pywhispercpp.model import Model

from benchmarks.peers.worker import BEAMS, Heard, Peer, peer_main


class WhisperCpp(Peer):
    """Runs a ggml file, which `variant` names."""

    CALL = "Model(file, params_sampling_strategy={}).transcribe(audio{{}})"

    def __init__(self, models: Path, variant: str, threads: int, mode: str) -> None:
        self._strategy, self._threads = int(mode == "beams"), threads
        file = str(models / f"{variant}.bin")
        self._model = Model(file, params_sampling_strategy=self._strategy, n_threads=threads)

    def call(self) -> str:
        return self.CALL.format(self._strategy)

    def versions(self) -> dict[str, str]:
        used = " ".join(re.findall(r"(\w+) = 1\b", Model.system_info() or ""))
        return {"pywhispercpp": version("pywhispercpp"), "compiled for": used}

    def arguments(self, mode: str, language: str) -> dict[str, Any]:
        return {
            "language": language,
            "n_threads": self._threads,
            "no_context": True,
            **({} if mode == "previous" else {"n_max_text_ctx": 0}),
            "temperature_inc": 0.0,
            **({"beam_search": {"beam_size": BEAMS, "patience": -1.0}} if mode == "beams" else {}),
            **({"token_timestamps": True, "max_len": 1, "split_on_word": True} if mode == "words" else {}),
            "print_progress": False,
        }

    def window_arguments(self, n_tokens: int) -> dict[str, Any]:
        # whisper.cpp gives one token more than this limit, where 0 is none
        options = {"no_timestamps": True, "single_segment": True, "max_tokens": n_tokens - 1}
        return {**self.arguments("plain", "en"), **options}

    def transcribe(self, waveform: NDArray[np.float32], arguments: dict[str, Any]) -> Heard:
        segments = self._model.transcribe(waveform, **arguments)
        text = " ".join(segment.text for segment in segments)
        return Heard(text, len(segments) if "max_len" in arguments else None)

    def encoder(self, waveform: NDArray[np.float32]) -> float:
        """Returns the seconds with those of the keys and values of the cross-attention, which it computes there."""
        context = self._model._ctx
        _pywhispercpp.whisper_pcm_to_mel(context, waveform, len(waveform), self._threads)
        start = perf_counter()
        _pywhispercpp.whisper_encode(context, 0, self._threads)
        return perf_counter() - start

    def tokens(self) -> int:
        context = self._model._ctx
        segments = range(_pywhispercpp.whisper_full_n_segments(context))
        return sum(_pywhispercpp.whisper_full_n_tokens(context, segment) for segment in segments)


if __name__ == "__main__":
    peer_main(lambda _checkpoint, models, variant, threads, mode: WhisperCpp(models, variant, threads, mode))
