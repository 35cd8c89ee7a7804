"""Finds the time of each token from the cross-attention heads that follow the sound (openai/whisper, timing.py)."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MEDIAN_WIDTH = 7
"""The number of positions whose median is taken."""
DIAGONAL, UP, LEFT = range(3)  # the cell that a path comes from


def attention_to_sound(scores: NDArray[np.float32], first: int) -> NDArray[np.float32]:
    """Returns how much each token attends to each position of the window, compared with the other tokens.

    scores: float32 [heads, tokens, positions], queries times keys before the softmax, without positions of padding.
    first: the index of the token that predicts the first token of the text. The last row, of end-of-text, is not used.
    The result is float32 [tokens of the text and end-of-text, positions], the mean of the heads.
    """
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a head that attends to all positions alike has a deviation of 0
        weights = (weights - weights.mean(axis=-2, keepdims=True)) / weights.std(axis=-2, keepdims=True)
    attention: NDArray[np.float32] = np.mean([median_filtered(head) for head in weights], axis=0)[first:-1]
    return attention


def token_starts(attention: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the position in the window at which each token begins, int64 [tokens of the text and end-of-text].

    attention: what `attention_to_sound` returns. The cheapest path through it gives each token some positions in a row.
    """
    tokens, positions = warp(-attention.astype(np.float64))
    begins = np.diff(tokens, prepend=-1) > 0
    return positions[begins]


def median_filtered(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the median of MEDIAN_WIDTH neighbors along the last axis of [rows, n], which is mirrored at its ends."""
    reach = MEDIAN_WIDTH // 2
    if x.shape[-1] <= reach:
        return x
    padded = np.pad(x, ((0, 0), (reach, reach)), mode="reflect")
    if np.isnan(x).any():  # comes last in the order, which minima and maxima do not know
        sorted_neighbors: NDArray[np.float32] = np.sort(sliding_window_view(padded, MEDIAN_WIDTH, axis=-1), axis=-1)
        return sorted_neighbors[..., reach]
    # Whole rows are compared at once, which takes a fifth of the time of sorting: the largest numbers move to the end.
    neighbors = [padded[:, i : i + x.shape[1]] for i in range(MEDIAN_WIDTH)]
    for end in range(MEDIAN_WIDTH - 1, reach - 1, -1):
        for i in range(end):
            pair = neighbors[i], neighbors[i + 1]
            neighbors[i], neighbors[i + 1] = np.minimum(*pair), np.maximum(*pair)
    return neighbors[reach]


def warp(x: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows and the columns of the cheapest path through costs [rows, columns], by dynamic time warping.

    A cell depends on three others, which are on the two anti-diagonals before its own, so that all cells of an
    anti-diagonal are computed at once. Sums are float32, and of equal ways the one from the left is taken, as in
    openai/whisper.
    """
    rows, columns = x.shape
    flipped = np.fliplr(x)
    came_from = np.full((rows + columns + 1, rows + 1), LEFT, np.int8)  # [row + column, row]
    unreached = np.full(rows + 1, np.inf, np.float32)
    before, last = unreached.copy(), unreached  # sums of two anti-diagonals by row; row 0 is above the first
    before[0] = 0
    for diagonal in range(2, rows + columns + 1):
        low, high = max(1, diagonal - columns), min(rows, diagonal - 1) + 1
        aside, up, left = before[low - 1 : high - 1], last[low - 1 : high - 1], last[low:high]
        ways = np.where((aside < up) & (aside < left), DIAGONAL, np.where((up < aside) & (up < left), UP, LEFT))
        came_from[diagonal, low:high] = ways
        sums = unreached.copy()
        sums[low:high] = flipped.diagonal(columns + 1 - diagonal) + np.choose(ways, (aside, up, left))
        before, last = last, sums
    return _path(came_from, rows, columns)


def _path(came_from: NDArray[np.int8], row: int, column: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows and the columns of the path, found from the last cell back to the first."""
    path = []
    while row > 0 or column > 0:
        path.append((row - 1, column - 1))
        way = UP if column == 0 else LEFT if row == 0 else came_from[row + column, row]
        row -= way in (DIAGONAL, UP)
        column -= way in (DIAGONAL, LEFT)
    cells = np.array(path[::-1], np.int64)
    return cells[:, 0], cells[:, 1]
