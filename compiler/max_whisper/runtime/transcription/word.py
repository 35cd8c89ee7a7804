"""A word and when it was said."""

from __future__ import annotations

from dataclasses import dataclass

PREPENDED = "\"'“¿([{-"
"""Punctuation that belongs to the word after it (openai/whisper, transcribe.py)."""
APPENDED = "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word before it."""


@dataclass(frozen=True)
class Word:
    """word: with the space before it and the punctuation around it. start, end: seconds. probability: 0 to 1."""

    word: str
    start: float
    end: float
    probability: float
