"""Measures of how good a text is (openai/whisper, decoding.py and utils.py)."""

from __future__ import annotations

import zlib


def compression_ratio(text: str) -> float:
    """Returns the bytes of a text divided by its bytes after zlib, which is high for text that repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def rank(sum_logprob: float, length: int, penalty: float | None) -> float:
    """Returns a score for choosing among texts of one window, the higher the better (MaximumLikelihoodRanker).

    Args:
        sum_logprob: The sum of the log-probabilities of the tokens.
        length: The number of tokens.
        penalty: The exponent of `length_penalty`; None divides by the length.
    """
    return sum_logprob / (max(length, 1) if penalty is None else ((5 + length) / 6) ** penalty)
