"""The peer whisper.cpp, by pywhispercpp. Its `whisper_full` does everything at once: phases are differences of calls.

It takes one window at a time, so that those of a batch come one after another.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import _pywhispercpp as whisper
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import since
from benchmarks.peers.worker import Peer, peer_main


class WhisperCpp(Peer):
    """Runs a ggml file, which ggml.py wrote; `variant` names it."""

    batched = False

    def __init__(self, models: Path, variant: str, threads: int) -> None:
        file, self._threads = models / f"{variant}.bin", threads
        context = whisper.whisper_context_default_params()
        context.use_gpu = False
        self._context = whisper.whisper_init_from_file_with_params(str(file), context)
        self._options = whisper.whisper_full_default_params(whisper.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY)
        self._options.n_threads = threads
        self._options.language = "en"
        self._options.no_timestamps = True
        self._options.single_segment = True
        self._options.suppress_nst = True  # the tokens that openai/whisper suppresses
        self._options.temperature_inc = 0.0  # no second decoding of a text that looks wrong
        self._options.print_progress = False

    def versions(self) -> dict[str, str]:
        return {"pywhispercpp": version("pywhispercpp"), "built with": whisper.whisper_print_system_info()}

    def text(self, audio_file: str, n_tokens: int) -> list[list[int]]:
        return [self._text(waveform, n_tokens) for waveform in np.load(audio_file)]

    def windows(self, audio_file: str, n_tokens: int) -> dict[str, Any]:
        windows = [self._window(waveform, n_tokens) for waveform in np.load(audio_file)]
        times = {phase: sum(window[phase] for window in windows) for phase in windows[0] if phase != "tokens"}
        return times | {"tokens": [window["tokens"] for window in windows]}

    def _window(self, waveform: NDArray[np.float32], n_tokens: int) -> dict[str, Any]:
        start = perf_counter()
        whisper.whisper_pcm_to_mel(self._context, waveform, len(waveform), self._threads)
        log_mel = since(start)

        start = perf_counter()
        whisper.whisper_encode(self._context, 0, self._threads)
        encoder = since(start)

        start = perf_counter()
        self._text(waveform, 2)
        two = since(start)

        start = perf_counter()
        tokens = self._text(waveform, n_tokens)
        total = since(start)
        token = (total - two) / max(1, n_tokens - 2)
        return {
            "tokens": tokens,
            "log_mel": log_mel,
            "encoder": encoder,
            "first": two - token - log_mel - encoder,
            "token": token,
            "total": total,
        }

    def _text(self, waveform: NDArray[np.float32], n_tokens: int) -> list[int]:
        """Returns at least two tokens: whisper.cpp gives one more than its limit, and 0 means no limit."""
        self._options.max_tokens = n_tokens - 1
        whisper.whisper_full(self._context, self._options, waveform, len(waveform))
        return [
            whisper.whisper_full_get_token_id(self._context, segment, i)
            for segment in range(whisper.whisper_full_n_segments(self._context))
            for i in range(whisper.whisper_full_n_tokens(self._context, segment))
        ]


if __name__ == "__main__":
    peer_main(lambda _checkpoint, models, variant, threads: WhisperCpp(models, variant, threads))
