"""Makes the cues of subtitles, which are texts with times, from segments (openai/whisper, utils.py: SubtitlesWriter).

No text breaks the format: blank lines, which would end a cue, are left out, and arrows like that of its times changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.times import format_timestamp, within_recording
from max_whisper.runtime.results import Segment, TranscriptionResult, Word

ARROW = re.compile(r"(?:-\0*){2,}>")
"""Matches the arrow between the times of a cue, also where it spans several words, which \\0 separates here."""
PAUSE = 3.0
"""Seconds without a word after which nothing is shown."""


class Cue(NamedTuple):
    """A text that is shown from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str


def cues(segments: Sequence[Segment], options: SubtitleOptions, escape: Callable[[str], str] = str) -> Iterator[Cue]:
    """Yields the cues in order: one for each segment, or words in lines where the segments have words.

    Args:
        segments: The segments of a recording.
        options: How words are cut into cues.
        escape: Returns text as the file's format has it; the tags around highlighted words are not escaped.
    """
    if not segments or segments[0].words is None:
        for segment in segments:
            lines = (line.strip() for line in segment.text.strip().splitlines())
            (text,) = _without_arrows(["\n".join(filter(None, lines))])
            yield Cue(segment.start, segment.end, escape(text))
        return
    for words in subtitles(segments, options):
        texts = [escape(text) for text in _without_arrows([word.word for word in words])]
        if options.highlight_words:
            yield from _highlighted(words, texts)
        else:
            yield Cue(words[0].start, words[-1].end, "".join(texts))


def cue_block(cue: Cue, result: TranscriptionResult, *, hours: bool = False, decimal_marker: str = ".") -> str:
    """Returns a cue as srt and vtt have it: a line with its times within the recording, its text, and a blank line."""
    times = within_recording(cue.start, cue.end, result.duration)
    start, end = (format_timestamp(time, hours=hours, decimal_marker=decimal_marker) for time in times)
    return f"{start} --> {end}\n{cue.text}\n\n"


def _without_arrows(texts: Sequence[str]) -> list[str]:
    """Returns texts that follow each other without NUL, and with `-->` shortened to `->`, as openai/whisper does."""
    joined = "\0".join(text.replace("\0", "\ufffd") for text in texts)
    return ARROW.sub(lambda arrow: "\0" * arrow[0].count("\0") + "->", joined).split("\0")


def _highlighted(words: Sequence[Word], texts: Sequence[str]) -> Iterator[Cue]:
    """Yields a cue for each word, in which it is underlined, and one for each pause between words."""
    for i, word in enumerate(words):
        if i > 0 and round(1000 * words[i - 1].end) != round(1000 * word.start):
            yield Cue(words[i - 1].end, word.start, "".join(texts))
        underlined = re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", texts[i])
        yield Cue(word.start, word.end, "".join([*texts[:i], underlined, *texts[i + 1 :]]))


def subtitles(segments: Sequence[Segment], options: SubtitleOptions) -> Iterator[list[Word]]:
    """Yields the words that are shown together; the first word of each line but the first begins with a newline."""
    width, count = options.max_line_width, options.max_line_count
    segments_apart = width is None or count is None  # each segment begins a new subtitle
    shown: list[Word] = []
    length, lines = 0, 1  # characters of the last line, and the number of lines
    spoken = [_one_line(segment.words or ()) for segment in segments]
    last = next((word.start for sentence in spoken for word in sentence), 0.0)
    for sentence in spoken:
        for chunk in _chunks(sentence, options.max_words_per_line):
            for i, word in enumerate(chunk):
                pause = not segments_apart and word.start - last > PAUSE
                next_segment = segments_apart and i == 0 and bool(shown)
                has_room = width is None or length + len(word.word) <= width
                if length and has_room and not pause and not next_segment:
                    length += len(word.word)
                    shown.append(word)
                else:
                    text = word.word.strip()
                    if next_segment or (shown and count is not None and (pause or lines >= count)):
                        yield shown
                        shown, lines = [], 1
                    elif length:
                        lines += 1
                        text = f"\n{text}"
                    length = len(text.strip())
                    shown.append(replace(word, word=text))
                last = word.start
    if shown:
        yield shown


def _one_line(words: Sequence[Word]) -> list[Word]:
    """Returns the words that show anything, without line breaks in them."""
    return [replace(word, word=" ".join(word.word.splitlines())) for word in words if word.word.strip()]


def _chunks(words: Sequence[Word], size: int | None) -> Iterator[Sequence[Word]]:
    """Yields the words in chunks of `size`, or all at once."""
    step = size or max(len(words), 1)
    bounds = [*range(0, len(words), step), len(words)]
    return (words[first:end] for first, end in pairwise(bounds))
