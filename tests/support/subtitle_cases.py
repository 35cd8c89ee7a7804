"""A transcription with words, and options of subtitles, for the writers and their golden file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from max_whisper.runtime.results import Segment, TranscriptionResult, Word

GOLDEN = Path(__file__).parents[1] / "golden" / "subtitles.json"

OPTIONS: dict[str, dict[str, Any]] = {
    "words": {},
    "highlighted": {"highlight_words": True},
    "narrow": {"max_line_width": 12},
    "narrow, highlighted": {"max_line_width": 12, "highlight_words": True},
    "two lines": {"max_line_width": 14, "max_line_count": 2},
    "two lines, highlighted": {"max_line_width": 14, "max_line_count": 2, "highlight_words": True},
    "one line": {"max_line_width": 20, "max_line_count": 1},
    "three words": {"max_words_per_line": 3},
    "one word, highlighted": {"max_words_per_line": 1, "highlight_words": True},
}


def segment(start: float, end: float, text: str, words: list[Word] | None = None) -> Segment:
    return Segment(300, start, end, text, [1, 2], 0.2, -0.25, 1.5, 0.125, words)


def transcription(text: str, language: str, segments: list[Segment], duration: float = 10_000.0) -> TranscriptionResult:
    return TranscriptionResult(text, segments, language, windows=[], duration=duration)


def spoken(*sentences: tuple[float, str]) -> TranscriptionResult:
    """Returns a result whose words take a third of a second each, with a gap after each but the fourth."""
    segments, time = [], 1.0
    for pause, sentence in sentences:
        time += pause
        words = []
        for i, word in enumerate(sentence.split()):
            words.append(Word(f" {word}", round(time, 2), round(time + 0.33, 2), 0.5))
            time += 0.33 if i == 3 else 0.4
        segments.append(segment(words[0].start, words[-1].end, f" {sentence}", words))
    return transcription(" ".join(sentence for _, sentence in sentences), "en", segments)


RESULT = spoken(
    (0.0, "Tomorrow the weather will be fine, with some clouds."),
    (0.2, "Later rain."),
    (4.0, "After a long pause the antidisestablishmentarian speaks again."),
)
