"""Computes the word error rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def edits(expected: Sequence[Any], found: Sequence[Any]) -> int:
    """Returns the least number of inserted, deleted or replaced words between two texts (Levenshtein's distance)."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(expected, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1]


def word_error_rate(expected: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]) -> float:
    """Returns the edits of all texts, divided by the number of expected words."""
    return sum(map(edits, expected, found)) / sum(map(len, expected))
