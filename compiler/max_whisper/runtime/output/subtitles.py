"""Segments -> what is shown on the screen, and when (openai/whisper, utils.py: SubtitlesWriter).

Whatever the text is, a cue is one: no blank line ends it early, and no arrow is taken for that of its times.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Protocol

from max_whisper.errors import UserError
from max_whisper.options import Flag, Integer, Options
from max_whisper.runtime.results import Word

ARROW = re.compile(r"(?:-\0*){2,}>")
"""What the times of a cue have between them, also over several words, which \\0 parts here."""
PAUSE = 3.0  # seconds without a word, after which nothing is shown
Cue = tuple[float, float, str]  # seconds from and to, and the text


class ShownSegment(Protocol):
    """Times in seconds; words where they were asked for."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def text(self) -> str: ...
    @property
    def words(self) -> Sequence[Word] | None: ...


@dataclass(frozen=True)
class SubtitleOptions(Options):
    """How srt and vtt are cut and shown, which needs the times of words."""

    highlight_words: Annotated[bool, Flag("Underline each word of srt and vtt while it is said.")] = False
    max_line_width: Annotated[
        int | None, Integer("The most characters of a line of srt and vtt.", low=1, high=10_000, unset="no limit")
    ] = None
    max_line_count: Annotated[
        int | None,
        Integer(
            "The most lines that srt and vtt show at once; segments are then joined. Needs max_line_width.",
            low=1,
            high=1_000,
            unset="no limit",
        ),
    ] = None
    max_words_per_line: Annotated[
        int | None,
        Integer(
            "The most words that srt and vtt show at once; not together with max_line_width.",
            low=1,
            high=1_000,
            unset="no limit",
        ),
    ] = None

    def check(self, *, word_timestamps: bool) -> None:
        """Raises UserError for values that do not go together."""
        if self != PLAIN and not word_timestamps:
            raise UserError("subtitles are cut and highlighted by the times of words: give word_timestamps too")
        if self.max_line_count is not None and self.max_line_width is None:
            raise UserError("max_line_count: needs max_line_width, as lines are not cut without it")
        if self.max_words_per_line is not None and self.max_line_width is not None:
            raise UserError("max_words_per_line: goes without max_line_width; give one of them")


PLAIN = SubtitleOptions()


def cues(
    segments: Sequence[ShownSegment], options: SubtitleOptions, escape: Callable[[str], str] = str
) -> Iterator[Cue]:
    """What is shown, in order: segments, or words in lines where there are words.

    escape: makes text of the file's format out of text; the tags around highlighted words are not text.
    """
    if not segments or segments[0].words is None:
        for segment in segments:
            lines = (line.strip() for line in segment.text.strip().splitlines())
            (text,) = _plain(["\n".join(filter(None, lines))])
            yield segment.start, segment.end, escape(text)
        return
    for words in subtitles(segments, options):
        texts = [escape(text) for text in _plain([word.word for word in words])]
        if options.highlight_words:
            yield from _highlighted(words, texts)
        else:
            yield words[0].start, words[-1].end, "".join(texts)


def _plain(texts: Sequence[str]) -> list[str]:
    """Texts that follow each other, without arrows, which openai/whisper shortens so, and without NUL."""
    joined = "\0".join(text.replace("\0", "\ufffd") for text in texts)
    return ARROW.sub(lambda arrow: "\0" * arrow[0].count("\0") + "->", joined).split("\0")


def _highlighted(words: Sequence[Word], texts: Sequence[str]) -> Iterator[Cue]:
    """A cue for each word, and between those that are apart."""
    for i, word in enumerate(words):
        if i > 0 and round(1000 * words[i - 1].end) != round(1000 * word.start):
            yield words[i - 1].end, word.start, "".join(texts)
        underlined = re.sub(r"^(\s*)(.*)$", r"\1<u>\2</u>", texts[i])
        yield word.start, word.end, "".join([*texts[:i], underlined, *texts[i + 1 :]])


def subtitles(segments: Sequence[ShownSegment], options: SubtitleOptions) -> Iterator[list[Word]]:
    """The words that are shown together; the first of each line but the first begins with a newline."""
    width, count = options.max_line_width, options.max_line_count
    apart = width is None or count is None  # a segment begins a new subtitle
    shown: list[Word] = []
    length, lines = 0, 1  # characters of the last line, and lines
    spoken = [_one_line(segment.words or ()) for segment in segments]
    last = next((word.start for sentence in spoken for word in sentence), 0.0)
    for sentence in spoken:
        for chunk in _chunks(sentence, options.max_words_per_line):
            for i, word in enumerate(chunk):
                pause = not apart and word.start - last > PAUSE
                next_segment = apart and i == 0 and bool(shown)
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
    """Those that show anything, without line breaks of their own."""
    return [replace(word, word=" ".join(word.word.splitlines())) for word in words if word.word.strip()]


def _chunks(words: Sequence[Word], size: int | None) -> Iterator[Sequence[Word]]:
    step = size or max(len(words), 1)
    bounds = [*range(0, len(words), step), len(words)]
    return (words[first:end] for first, end in pairwise(bounds))
