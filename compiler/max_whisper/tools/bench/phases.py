"""Measures how long an artifact takes for a batch of windows, phase by phase."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import numpy as np
from max.driver import Buffer
from numpy.typing import NDArray

from max_whisper.artifact.load import WhisperArtifact, open_artifact
from max_whisper.errors import UserError
from max_whisper.runtime.audio.mel import HOP
from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.runtime.decoding.decoder import Decoder
from max_whisper.runtime.decoding.greedy import generate
from max_whisper.runtime.decoding.rule import CompiledForm
from max_whisper.runtime.model import Model

LOADS = 5
Result = TypeVar("Result")


class NoiseWindows:
    """A batch of windows of noise, which an artifact decodes to a fixed number of tokens, whatever its weights."""

    def __init__(self, artifact: WhisperArtifact, n_tokens: int) -> None:
        """Makes the noise. Raises UserError if the artifact cannot hold so many tokens."""
        self.artifact, self.n_tokens = artifact, n_tokens
        self.model, self.decoder = Model(artifact), Decoder(artifact)
        self.batch, tokens = artifact.manifest.plan.batch, artifact.manifest.tokens
        prompt = self.model.tokenizer.prompt("en", without_timestamps=True)
        most = artifact.manifest.dims["n_text_ctx"] + 1 - len(prompt)
        if not 2 <= n_tokens <= most:
            raise UserError(f"--tokens {n_tokens}: expected 2 to {most}, as many as {artifact.folder} can hold")
        self.sot_index, self.prompt_length = prompt.index(tokens.sot), len(prompt)
        self.prompts = [prompt] * self.batch
        suppressed = (*tokens.suppress, tokens.eot)
        self.form = CompiledForm(suppressed_first=suppressed, suppressed_later=suppressed)
        self.samples = self.model.n_frames * HOP
        self.seconds = self.samples / SAMPLE_RATE
        self.sound = np.random.default_rng(0).standard_normal((self.batch, self.samples)).astype(np.float32) * 0.1

    def log_mel(self) -> NDArray[np.float32]:
        """Returns the log-mel spectrograms, float32 [batch, n_mels, n_frames]."""
        frames = self.model.n_frames
        return np.stack([self.model.log_mel(sound, padding=self.samples)[:, :frames] for sound in self.sound])

    def encode(self, mel: NDArray[np.float32]) -> Buffer:
        """Returns the features [batch, n_audio_ctx, d_model]."""
        features: Buffer = self.artifact.graphs["encoder"].execute(Buffer.from_numpy(mel))[0]
        return features

    def decode(self, cross_kv: list[Buffer], n_tokens: int, decoder: Decoder | None = None) -> list[list[int]]:
        """Returns `n_tokens` greedy tokens of each window; end-of-text is suppressed.

        cross_kv: the cross-attention KV cache. decoder: None is the artifact's own.
        """
        texts = generate(
            decoder or self.decoder,
            cross_kv,
            self.prompts,
            sot_index=self.sot_index,
            max_new_tokens=n_tokens,
            form=self.form,
        )
        return [text.tokens for text in texts]


def load_time(folder: Path) -> float:
    """Returns the median milliseconds of loading an artifact, in a process that has loaded it before."""
    return median(timed(lambda: Model(open_artifact(folder)))[1] for _ in range(LOADS))


def phases(windows: NoiseWindows, rounds: int) -> dict[str, float]:
    """Returns the milliseconds of each phase: medians of the rounds, after one to warm up.

    "first" is the prompt and the first token, "token" each later token, "total" from the sound to the last token.
    """
    measured = [_round(windows) for _ in range(rounds + 1)][1:]
    return {name: median(round_[name] for round_ in measured) for name in measured[0]}


def _round(windows: NoiseWindows) -> dict[str, float]:
    """Returns the milliseconds of one run of each phase."""
    n_tokens, decoder = windows.n_tokens, windows.decoder
    mel, log_mel = timed(windows.log_mel)
    features, encoder = timed(lambda: windows.encode(mel))
    keys_values, cross_kv = timed(lambda: decoder.cross_kv(features))
    _, first = timed(lambda: windows.decode(keys_values, 1))
    _, all_tokens = timed(lambda: windows.decode(keys_values, n_tokens))
    _, total = timed(lambda: windows.decode(decoder.cross_kv(windows.encode(windows.log_mel())), n_tokens))
    token = (all_tokens - first) / (n_tokens - 1)
    return {
        "log_mel": log_mel,
        "encoder": encoder,
        "cross_kv": cross_kv,
        "first": first,
        "token": token,
        "total": total,
    }


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """Returns the result of a function, and the milliseconds of the call."""
    start = perf_counter()
    result = run()
    return result, (perf_counter() - start) * 1e3


def peak_memory() -> float:
    """Returns the peak memory of this process in MB; NaN where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
