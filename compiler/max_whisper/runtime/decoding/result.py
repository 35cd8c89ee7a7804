"""The text of one window of audio, and how good it is (openai/whisper, decoding.py)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass


@dataclass(frozen=True)
class DecodingResult:
    """The text of one window."""

    language: str  # "en" for an English-only model
    tokens: list[int]  # sampled ones, without prompt and end-of-text; timestamps among them
    text: str
    avg_logprob: float  # of the tokens and end-of-text: sum / (number of tokens + 1)
    no_speech_prob: float
    temperature: float
    compression_ratio: float  # bytes of the text / its bytes after zlib: high where it repeats itself


def compression_ratio(text: str) -> float:
    """openai/whisper, utils.py."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def rank(sum_logprob: float, length: int, penalty: float | None) -> float:
    """The higher the better, among samples of a window (openai/whisper's MaximumLikelihoodRanker)."""
    return sum_logprob / (max(length, 1) if penalty is None else ((5 + length) / 6) ** penalty)
