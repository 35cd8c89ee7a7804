"""Warns of segments whose text was probably invented: Whisper writes fluent sentences where nobody speaks.

Each signal is a function that says what is odd about a segment. Their bounds were set on 51 minutes of speech and of
sounds without speech (docs/invented-text.md has the rates of false alarms).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, LogMel
from max_whisper.runtime.results import Segment, SegmentWarning, Word
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.vad.loudness import loud_frames
from max_whisper.runtime.vad.muted import MutedMel

MAX_RATE = 30.0
"""The most characters that are said in a second; fast speech has 25."""
MAX_BEHIND = 0.5
"""The largest part of a segment that may lie behind the end of the sound."""
IMPROBABLE_SPEECH = 0.2
"""The probability of no speech above which an improbable text was probably invented.

It is below `no_speech_threshold`, above which the text of a whole window is left out as silence.
"""
LOUDER_THAN_SILENCE = 10.0
"""How many decibels louder than the quietest frames speech is, at least (vad/loudness.py)."""
KEPT_TEXTS = 2
"""The number of segments whose texts a loop repeats, at least."""
SHORTEST = 0.5
"""Shorter segments count as so many seconds long, because their times are not exact."""


class Hearing:
    """What is known of the sound of a recording.

    Attributes:
        min_logprob: The average log-probability below which a text is improbable.
        max_ratio: The compression ratio above which a text is repetitive.
    """

    def __init__(self, mel: LogMel | MutedMel, options: TranscribeOptions) -> None:
        """Takes the spectrogram of the recording, and options that `of_model` has filled in."""
        self.min_logprob = -np.inf if options.min_logprob is None else options.min_logprob
        ratio = options.compression_ratio_threshold
        self.max_ratio = np.inf if ratio is None else ratio
        self._mel = mel

    def is_silent(self, piece: Segment | Word, end: float) -> bool:
        """Returns whether nothing is loud enough to be a segment or a word of a window whose sound ends at `end`."""
        first, last = (round(min(time, end) * FRAMES_PER_SECOND) for time in (piece.start, piece.end))
        return piece.start >= end or not self._loud[first : last + 1].any()

    @cached_property
    def _loud(self) -> NDArray[np.bool_]:
        return loud_frames(self._mel.loudness, LOUDER_THAN_SILENCE) & self._mel.heard


Signal = Callable[[Segment, Sequence[str], Hearing, float], str]
"""Returns what is odd about a segment, given earlier texts and the end of its window's sound; "" if nothing is."""


def repetition(segment: Segment, earlier: Sequence[str], hearing: Hearing, end: float) -> str:
    """The text of the window repeats itself, or the segment repeats those before it."""
    if segment.compression_ratio > hearing.max_ratio:
        return f"the text of its window repeats itself: compression ratio {segment.compression_ratio:.1f}"
    if [*earlier[-KEPT_TEXTS:]] == [segment.text.strip()] * KEPT_TEXTS:
        return f"it has the same text as the {KEPT_TEXTS} segments before it"
    return ""


def silence(segment: Segment, earlier: Sequence[str], hearing: Hearing, end: float) -> str:
    """The sound is silent where most of the words were placed, or, without their times, in the whole segment."""
    pieces: Sequence[Segment | Word] = segment.words or [segment]
    silent = sum(hearing.is_silent(piece, end) for piece in pieces)
    if silent <= len(pieces) / 2:
        return ""
    return f"the sound is silent at {silent} of its {len(pieces)} words" if segment.words else "the sound is silent"


def behind_end(segment: Segment, earlier: Sequence[str], hearing: Hearing, end: float) -> str:
    """The text lies behind the end of the sound, all of it or the larger part."""
    behind = segment.end - max(segment.start, end)
    if behind <= MAX_BEHIND * (segment.end - segment.start):
        return ""
    return f"{behind:.1f} of its {segment.end - segment.start:.1f} seconds lie behind the end of the sound"


def no_speech(segment: Segment, earlier: Sequence[str], hearing: Hearing, end: float) -> str:
    """The text of the window is improbable even after all retries, and there may be no speech in it."""
    if segment.avg_logprob >= hearing.min_logprob or segment.no_speech_prob <= IMPROBABLE_SPEECH:
        return ""
    return (
        "there may be no speech in its window, whose text is improbable: no-speech probability "
        f"{segment.no_speech_prob:.2f}, average log-probability {segment.avg_logprob:.2f}"
    )


def too_fast(segment: Segment, earlier: Sequence[str], hearing: Hearing, end: float) -> str:
    """Nobody can say so many characters in the part of the segment in which there is sound."""
    seconds = max(min(segment.end, end) - segment.start, SHORTEST)
    rate = len(segment.text.strip()) / seconds
    return f"it has {rate:.0f} characters a second" if rate > MAX_RATE else ""


SIGNALS: Mapping[str, Signal] = {
    signal.__name__: signal for signal in (repetition, silence, behind_end, no_speech, too_fast)
}
"""The signals by the names that warnings have."""


def with_warnings(segments: Sequence[Segment], earlier: Sequence[str], hearing: Hearing, end: float) -> list[Segment]:
    """Returns the segments of a window with their warnings.

    Args:
        segments: The segments, none of which is empty.
        earlier: The texts of the segments before, KEPT_TEXTS of them if there are so many.
        hearing: What is known of the sound.
        end: The time at which the sound of the window ends, with the recording or its clip, in seconds.
    """
    texts = [*earlier]
    marked = []
    for segment in segments:
        reasons = {name: signal(segment, texts, hearing, end) for name, signal in SIGNALS.items()}
        warnings = [SegmentWarning(name, reason) for name, reason in reasons.items() if reason]
        marked.append(replace(segment, warnings=warnings))
        texts.append(segment.text.strip())
    return marked
