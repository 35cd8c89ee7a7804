"""Words in silence that nobody said, found by how unlikely they are (openai/whisper, transcribe.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND
from max_whisper.runtime.results import Word
from max_whisper.runtime.transcription.options import APPENDED, PREPENDED

if TYPE_CHECKING:
    from max_whisper.runtime.results import Segment

PUNCTUATION = PREPENDED + APPENDED
WORDS_LOOKED_AT = 8  # of a segment


def speech_end(segments: Sequence[Segment]) -> float | None:
    """Seconds at which the last word ends; without words, the last segment."""
    ends = [word.end for segment in segments for word in segment.words or ()]
    return ends[-1] if ends else segments[-1].end if segments else None


def is_anomaly(segment: Segment | None) -> bool:
    """Whether the words of a segment are hardly real."""
    if segment is None or not segment.words:
        return False
    words = [word for word in segment.words if word.word not in PUNCTUATION][:WORDS_LOOKED_AT]
    score = sum(map(anomaly, words))
    return score >= 3 or score + 0.01 >= len(words)


def anomaly(word: Word) -> float:
    """How unlikely, too short or too long a word is; 0 is none."""
    duration = word.end - word.start
    return (word.probability < 0.15) + max(0.0, 0.133 - duration) * 15 + max(0.0, duration - 2.0)


@dataclass(frozen=True)
class Surroundings:
    """Where the segments of one window stand. threshold: seconds of silence. begin, length, n_frames, content: frames.

    length: of the sound in the window, of `n_frames` that it could have. content: of the recording. closed: whether the
    text ended in a single timestamp. last_speech: seconds at which the last word before the window ended.
    """

    threshold: float
    begin: int
    length: int
    n_frames: int
    content: int
    closed: bool
    last_speech: float

    @property
    def offset(self) -> float:
        return self.begin / FRAMES_PER_SECOND

    @property
    def window_end(self) -> float:
        return (self.begin + self.n_frames) / FRAMES_PER_SECOND

    def without_hallucinations(self, segments: Sequence[Segment], following: int) -> tuple[list[Segment], int, str]:
        """The segments that are left, the frame at which the next window begins, and why all of it is passed over.

        following: that frame as it was without looking for hallucinations.
        """
        segments = list(segments)
        end = speech_end(segments)
        if not self.closed and end is not None and end > self.offset:
            silent = self.window_end - end > self.threshold
            following = round(end * FRAMES_PER_SECOND) if silent else self.begin + self.length
        first = next((segment for segment in segments if segment.words), None)
        if first is not None and is_anomaly(first):
            gap = first.start - self.offset
            if gap > self.threshold:
                return [], self.begin + round(gap * FRAMES_PER_SECOND), "silence before what is hardly speech"
        i = self._hallucination(segments)
        if i is not None:
            after = round(max(self.offset + 1, segments[i].start) * FRAMES_PER_SECOND)
            left = self.content / FRAMES_PER_SECOND - segments[i].end
            return segments[:i], self.content if left < self.threshold else after, ""
        return segments, following, ""

    def _hallucination(self, segments: Sequence[Segment]) -> int | None:
        """The first segment that is hardly real and has silence, or more of its kind, around it."""
        last_end = self.last_speech
        for i, segment in enumerate(segments):
            if not segment.words:
                continue
            if is_anomaly(segment):
                later = next((other for other in segments[i + 1 :] if other.words), None)
                next_start = self.offset + self.length / FRAMES_PER_SECOND
                if later is not None and later.words:
                    next_start = later.words[0].start
                before = (
                    segment.start - last_end > self.threshold
                    or segment.start < self.threshold
                    or segment.start - self.offset < 2.0
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
