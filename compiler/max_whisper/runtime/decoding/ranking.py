"""How good a text is (openai/whisper, decoding.py and utils.py)."""

from __future__ import annotations

import zlib


def compression_ratio(text: str) -> float:
    """openai/whisper, utils.py."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def rank(sum_logprob: float, length: int, penalty: float | None) -> float:
    """The higher the better, among samples of a window (openai/whisper's MaximumLikelihoodRanker)."""
    return sum_logprob / (max(length, 1) if penalty is None else ((5 + length) / 6) ** penalty)
