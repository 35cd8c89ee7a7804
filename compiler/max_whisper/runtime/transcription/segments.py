"""Cuts the text of a window into segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND
from max_whisper.tokens import TIME_PRECISION

FRAMES_PER_TOKEN = round(TIME_PRECISION * FRAMES_PER_SECOND)


def cut(tokens: Sequence[int], timestamp_begin: int, length: int) -> tuple[list[tuple[float, float, list[int]]], int]:
    """Returns the segments of a window of `length` frames, and how many frames later the next window begins.

    A segment is its start and end, in seconds from the start of the window, and its tokens. It ends where two
    timestamps follow each other. The text after the last such pair is dropped, because the next window begins there,
    unless it ends in a single timestamp: then the rest of the window is silence.
    """

    def seconds(token: int) -> float:
        return (token - timestamp_begin) * TIME_PRECISION

    timestamps = [token >= timestamp_begin for token in tokens]
    ends = [i for i in range(1, len(tokens)) if timestamps[i - 1] and timestamps[i]]
    if not ends:
        last = next((token for token in reversed(tokens) if token >= timestamp_begin), timestamp_begin)
        end = seconds(last) if last != timestamp_begin else length / FRAMES_PER_SECOND
        return [(0.0, end, list(tokens))], length
    closed = ends_in_one_timestamp(tokens, timestamp_begin)
    if closed:
        ends.append(len(tokens))
    parts = [list(tokens[first:last]) for first, last in pairwise([0, *ends])]
    segments = [(seconds(part[0]), seconds(part[-1]), part) for part in parts]
    return segments, length if closed else (parts[-1][-1] - timestamp_begin) * FRAMES_PER_TOKEN


def ends_in_one_timestamp(tokens: Sequence[int], timestamp_begin: int) -> bool:
    """Returns whether a text ends in a single timestamp, which means that nothing is said in the rest of the window."""
    return [token >= timestamp_begin for token in tokens[-2:]] == [False, True]
