"""Makes words with times from tokens and the positions at which they begin (openai/whisper, timing.py)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.results import Segment, Word
from max_whisper.runtime.transcription.options import APPENDED, PREPENDED

LANGUAGES_WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")
"""The codes of languages that put no spaces between words."""
SENTENCE_ENDS = ".。!！?？"
MAX_MEDIAN = 0.7
"""The upper bound of the median duration of words, in seconds; a longer one comes from errors of the alignment."""
POSITIONS_PER_SECOND = 50
"""Positions of the encoder's output in a second."""
_EOT, _UNFINISHED = "<|endoftext|>", "\ufffd"


@dataclass
class Timing:
    """A word of one window, before it is assigned to a segment; its text is empty after it was merged into another.

    Attributes:
        word: The text, with the space before it.
        tokens: Its token ids.
        start: The time at which it begins, in seconds from the start of the window.
        end: The time at which it ends, in seconds from the start of the window.
        probability: The mean probability of its tokens.
        attended: The latest time to which one of its tokens attends most, in seconds from the start of the window.
    """

    word: str
    tokens: list[int]
    start: float
    end: float
    probability: float
    attended: float

    @property
    def duration(self) -> float:
        """The duration in seconds."""
        return self.end - self.start


def timings(
    tokens: Sequence[int],
    starts: Sequence[int],
    attended: Sequence[int],
    probabilities: Sequence[float],
    tokenizer: Tokenizer,
    language: str,
) -> list[Timing]:
    """Returns the words of text tokens, with their times.

    starts, attended: the positions in the window at which each token and end-of-text begin, and to which they attend
    most. probabilities: that of each token.
    """
    words = split_words([*tokens, tokenizer.tokens.eot], tokenizer, language)[:-1]
    bounds = np.cumsum([0, *(len(ids) for _, ids in words)]).tolist()
    times = np.asarray(starts) / POSITIONS_PER_SECOND
    return [
        Timing(
            text,
            ids,
            float(times[i]),
            float(times[j]),
            float(np.mean(probabilities[i:j])),
            max(attended[i:j]) / POSITIONS_PER_SECOND,
        )
        for (text, ids), (i, j) in zip(words, pairwise(bounds), strict=True)
    ]


def split_words(tokens: Sequence[int], tokenizer: Tokenizer, language: str) -> list[tuple[str, list[int]]]:
    """Returns each word and its tokens; punctuation and end-of-text are words of their own."""
    pieces = _characters(tokens, tokenizer)
    if language in LANGUAGES_WITHOUT_SPACES:
        return pieces
    words: list[tuple[str, list[int]]] = []
    for text, ids in pieces:
        begins = ids[0] >= tokenizer.tokens.eot or text.startswith(" ") or text.strip() in string.punctuation
        if begins or not words:
            words.append((text, ids))
        else:
            words[-1] = (words[-1][0] + text, words[-1][1] + ids)
    return words


def _characters(tokens: Sequence[int], tokenizer: Tokenizer) -> list[tuple[str, list[int]]]:
    """Returns the text and the tokens of each shortest run of tokens that holds complete characters only."""

    def text_of(ids: Sequence[int]) -> str:
        return tokenizer.decode(ids) + _EOT * (ids[-1] == tokenizer.tokens.eot)

    whole = text_of(tokens)
    pieces: list[tuple[str, list[int]]] = []
    offset, run = 0, []
    for token in tokens:
        run.append(token)
        text = text_of(run)
        unfinished = text.find(_UNFINISHED)
        # Where the text as a whole has U+FFFD, too, the bytes are no UTF-8, and further tokens do not complete them.
        if unfinished < 0 or whole[offset + unfinished : offset + unfinished + 1] == _UNFINISHED:
            pieces.append((text, run))
            offset, run = offset + len(text), []
    return pieces


@dataclass(frozen=True)
class SegmentTimes:
    """The words of a segment, and the times of the segment, corrected so that they fit the words.

    Attributes:
        start: The time at which the segment begins, in seconds of the recording.
        end: The time at which it ends, in seconds of the recording.
        words: The words.
    """

    start: float
    end: float
    words: list[Word]


def assign_words(
    segments: Sequence[Segment],
    words: list[Timing],
    *,
    eot: int,
    offset: float,
    last_speech: float,
    prepended: str = PREPENDED,
    appended: str = APPENDED,
) -> list[SegmentTimes]:
    """Returns the words of each segment of a window, and the times of the segments, which fit those of the words.

    offset: the time at which the window begins, in seconds. last_speech: the time at which the last word before it
    ended. prepended, appended: punctuation that belongs to the word after it, and before it.
    """
    durations = [word.duration for word in words if word.duration]
    median = min(MAX_MEDIAN, float(np.median(durations))) if durations else 0.0
    _shorten_at_sentence_ends(words, 2 * median)
    merge_punctuation(words, prepended, appended)
    times = []
    rest = iter(words)
    for segment in segments:
        missing = sum(token < eot for token in segment.tokens)
        assigned = []
        while missing > 0 and (timing := next(rest, None)) is not None:
            missing -= len(timing.tokens)
            if timing.word:
                start, end = round(offset + timing.start, 2), round(offset + timing.end, 2)
                assigned.append(Word(timing.word, start, end, timing.probability))
        times.append(_fitted(segment, assigned, median, last_speech))
        if assigned:
            last_speech = times[-1].end
    return times


def _shorten_at_sentence_ends(words: list[Timing], longest: float) -> None:
    """Shortens words at the ends of sentences, because the alignment counts the pause there as part of a word."""
    for before, word in pairwise(words):
        if longest and word.duration > longest:
            if word.word in SENTENCE_ENDS:
                word.end = word.start + longest
            elif before.word in SENTENCE_ENDS:
                word.start = word.end - longest


def merge_punctuation(words: list[Timing], prepended: str, appended: str) -> None:
    """Merges punctuation into the word that it belongs to, and leaves its own entry in the list empty."""
    following = len(words) - 1
    for i in range(len(words) - 2, -1, -1):
        mark, word = words[i], words[following]
        if mark.word.startswith(" ") and mark.word.strip() in prepended:
            word.word, word.tokens = mark.word + word.word, mark.tokens + word.tokens
            mark.word, mark.tokens = "", []
        else:
            following = i
    previous = 0
    for i in range(1, len(words)):
        word, mark = words[previous], words[i]
        if not word.word.endswith(" ") and mark.word in appended:
            word.word, word.tokens = word.word + mark.word, word.tokens + mark.tokens
            mark.word, mark.tokens = "", []
        else:
            previous = i


def _fitted(segment: Segment, words: list[Word], median: float, last_speech: float) -> SegmentTimes:
    """Returns the times of a segment and of its words, of which long ones at its ends are shortened."""
    if not words:
        return SegmentTimes(segment.start, segment.end, words)
    longest = 2 * median
    after_pause = words[0].end - last_speech > 4 * median
    if after_pause and (
        words[0].end - words[0].start > longest or (len(words) > 1 and words[1].end - words[0].start > 2 * longest)
    ):
        if len(words) > 1 and words[1].end - words[1].start > longest:
            boundary = max(words[1].end / 2, words[1].end - longest)
            words[0], words[1] = replace(words[0], end=boundary), replace(words[1], start=boundary)
        words[0] = replace(words[0], start=max(0, words[0].end - longest))
    start, end = segment.start, segment.end
    if start < words[0].end and start - 0.5 > words[0].start:
        words[0] = replace(words[0], start=max(0, min(words[0].end - median, start)))
    else:
        start = words[0].start
    if end > words[-1].start and end + 0.5 < words[-1].end:
        words[-1] = replace(words[-1], end=max(words[-1].start + median, end))
    else:
        end = words[-1].end
    return SegmentTimes(start, end, words)
