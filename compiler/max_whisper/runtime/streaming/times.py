"""Turns times in a window into times in the stream."""

from __future__ import annotations

from dataclasses import replace

from max_whisper.runtime.results import Segment, Word
from max_whisper.runtime.transcription.words import Timing


def stream_word(word: Timing, offset: float) -> Word:
    """Returns a word with its times in seconds of the stream. offset: when the window begins."""
    return Word(word.word, round(offset + word.start, 2), round(offset + word.end, 2), word.probability)


def later_segment(segment: Segment, seconds: float) -> Segment:
    """Returns a segment whose times are so many seconds later."""

    def later(time: float) -> float:
        return round(time + seconds, 2)

    words = [replace(word, start=later(word.start), end=later(word.end)) for word in segment.words or ()]
    return replace(segment, start=later(segment.start), end=later(segment.end), words=words)
