"""Log-mel, prompt and greedy loop in numpy, for the libraries that bring graphs and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEL_FILTERS = "mel_filters.npy"
"""The file beside the models of all peers: float32 [n_mels, 201]."""


class LogMel:
    """Computes the log-mel as openai/whisper does."""

    def __init__(self, models: Path) -> None:
        self._filters = np.load(models.parent / MEL_FILTERS)
        self._hann = np.hanning(401)[:-1].astype(np.float32)

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns float32 [batch, n_mels, 3000] for waveforms [batch, samples]."""
        return np.stack([self._one(waveform) for waveform in waveforms])

    def _one(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns float32 [n_mels, 3000] for one waveform. Frames after the sound are silent, and not computed."""
        samples = np.pad(padded(waveform[None])[0], 200, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[: len(waveform) + 200 : 160][:3000]
        mel = np.full((len(self._filters), 3000), -10, np.float32)
        for first in range(0, len(frames), 128):  # as many as have spectra that fit in the cache
            part = slice(first, min(first + 128, len(frames)))
            spectrum = np.fft.rfft(frames[part] * self._hann)
            power = self._filters @ (spectrum.real**2 + spectrum.imag**2).T
            mel[:, part] = np.log10(np.maximum(power, 1e-10))
        return (np.maximum(mel, mel.max() - 8) + 4) / 4


def padded(waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the waveforms with silence up to 30 s, float32 [batch, 480000]."""
    return np.pad(waveforms, ((0, 0), (0, 480_000 - waveforms.shape[1])))


class Rules:
    """The rules of greedy English text without timestamps, read from a checkpoint's generation_config.json."""

    def __init__(self, checkpoint: Path) -> None:
        rules = json.loads((checkpoint / "generation_config.json").read_text())
        config = json.loads((checkpoint / "config.json").read_text())
        spoken = [rules["lang_to_id"]["<|en|>"], rules["task_to_id"]["transcribe"]] if rules["is_multilingual"] else []
        self.prompt: list[int] = [rules["decoder_start_token_id"], *spoken, rules["no_timestamps_token_id"]]
        self.eot: int = rules["eos_token_id"]
        self.mask = np.zeros(config["vocab_size"], np.float32)
        """The bias of the scores of every token but the first."""
        self.mask[rules["suppress_tokens"]] = -np.inf
        self.first_mask = self.mask.copy()
        self.first_mask[rules["begin_suppress_tokens"]] = -np.inf

    def generate(
        self,
        batch: int,
        n_tokens: int,
        step: Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.int64]],
    ) -> list[list[int]]:
        """Returns at most n_tokens tokens for each window.

        `step` takes tokens, int64 [batch, length], and a mask, float32 [n_vocab]; it returns the best next tokens,
        int64 [batch].
        """
        last = step(np.tile(np.array(self.prompt), (batch, 1)), self.first_mask)
        chosen = [last]
        while len(chosen) < n_tokens and (last != self.eot).any():
            last = step(last[:, None], self.mask)
            chosen.append(last)
        return np.stack(chosen, axis=1).tolist()
