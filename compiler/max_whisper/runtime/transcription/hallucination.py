"""Finds hallucinations: improbable words with silence around them (openai/whisper, transcribe.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND
from max_whisper.runtime.results import Segment, Word
from max_whisper.runtime.transcription.options import APPENDED, PREPENDED

PUNCTUATION = PREPENDED + APPENDED
MAX_WORDS = 8
"""The number of words of a segment, from the first on, by which it is judged."""


def speech_end(segments: Sequence[Segment]) -> float | None:
    """Returns the time at which the last word ends, in seconds; without words, that of the last segment."""
    ends = [word.end for segment in segments for word in segment.words or ()]
    return ends[-1] if ends else segments[-1].end if segments else None


def is_anomaly(segment: Segment | None) -> bool:
    """Returns whether the words of a segment were probably not said."""
    if segment is None or not segment.words:
        return False
    words = [word for word in segment.words if word.word not in PUNCTUATION][:MAX_WORDS]
    score = sum(map(anomaly, words))
    return score >= 3 or score + 0.01 >= len(words)


def anomaly(word: Word) -> float:
    """Returns a score of how improbable, short or long a word is: 0 for an ordinary word."""
    duration = word.end - word.start
    return (word.probability < 0.15) + max(0.0, 0.133 - duration) * 15 + max(0.0, duration - 2.0)


@dataclass(frozen=True)
class WindowPosition:
    """Where a window is in its recording.

    Attributes:
        seek: The frame at which it begins.
        length: The number of its frames before the padding.
        n_frames: The number of frames that a window can have.
        content: The number of frames of the recording.
        last_speech: The time at which the last word before it ended, in seconds.
    """

    seek: int
    length: int
    n_frames: int
    content: int
    last_speech: float

    @property
    def start(self) -> float:
        """The time at which the window begins, in seconds."""
        return self.seek / FRAMES_PER_SECOND


@dataclass(frozen=True)
class HallucinationFilter:
    """Leaves out segments that were probably not said and have silence around them.

    Attributes:
        position: The position of the window that has the segments.
        threshold: The shortest silence that counts, in seconds.
        closed: Whether the text ended in a single timestamp.
    """

    position: WindowPosition
    threshold: float
    closed: bool

    @property
    def window_end(self) -> float:
        """The time at which a window of full length would end, in seconds."""
        return (self.position.seek + self.position.n_frames) / FRAMES_PER_SECOND

    def without_hallucinations(self, segments: Sequence[Segment], next_seek: int) -> tuple[list[Segment], int, str]:
        """Returns the segments that are left, the frame at which the next window begins, and why all were dropped.

        next_seek: that frame without regard to hallucinations. The reason is "" where not all segments were dropped.
        """
        segments, position = list(segments), self.position
        end = speech_end(segments)
        if not self.closed and end is not None and end > position.start:
            silent = self.window_end - end > self.threshold
            next_seek = round(end * FRAMES_PER_SECOND) if silent else position.seek + position.length
        first = next((segment for segment in segments if segment.words), None)
        if first is not None and is_anomaly(first):
            gap = first.start - position.start
            if gap > self.threshold:
                return [], position.seek + round(gap * FRAMES_PER_SECOND), "silence before what is hardly speech"
        i = self._first_hallucination(segments)
        if i is not None:
            after = round(max(position.start + 1, segments[i].start) * FRAMES_PER_SECOND)
            left = position.content / FRAMES_PER_SECOND - segments[i].end
            return segments[:i], position.content if left < self.threshold else after, ""
        return segments, next_seek, ""

    def _first_hallucination(self, segments: Sequence[Segment]) -> int | None:
        """Returns the index of the first segment that was probably not said, with silence or more of them around it."""
        last_end = self.position.last_speech
        for i, segment in enumerate(segments):
            if not segment.words:
                continue
            if is_anomaly(segment):
                later = next((other for other in segments[i + 1 :] if other.words), None)
                next_start = self.position.start + self.position.length / FRAMES_PER_SECOND
                if later is not None and later.words:  # it has words: the second check is for the type checker
                    next_start = later.words[0].start
                before = (
                    segment.start - last_end > self.threshold
                    or segment.start < self.threshold
                    or segment.start - self.position.start < 2.0
                )
                after = (
                    next_start - segment.end > self.threshold
                    or is_anomaly(later)
                    or self.window_end - segment.end < 2.0
                )
                if before and after:
                    return i
            last_end = segment.end
        return None
