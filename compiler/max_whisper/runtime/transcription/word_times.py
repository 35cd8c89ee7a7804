"""Adds words to the segments of one window, and finds the beginning of the next window by them.

As in openai/whisper (transcribe.py), words that were probably not said are left out if the options ask for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND
from max_whisper.runtime.results import Segment
from max_whisper.runtime.transcription.hallucination import HallucinationFilter, WindowPosition, speech_end
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.words import Timing, assign_words


def with_words(
    segments: Sequence[Segment],
    words: list[Timing],
    position: WindowPosition,
    options: TranscribeOptions,
    *,
    eot: int,
    next_seek: int,
    closed: bool,
) -> tuple[list[Segment], int, str]:
    """Returns the segments with words, the frame at which the next window begins, and why all segments were dropped.

    next_seek: that frame according to the timestamps. closed: whether the text ended in a single timestamp, after which
    nothing was said. The reason is "" where not all segments were dropped.
    """
    assigned = assign_words(
        segments,
        words,
        eot=eot,
        offset=position.start,
        last_speech=position.last_speech,
        prepended=options.prepend_punctuations,
        appended=options.append_punctuations,
    )
    timed = [
        replace(segment, start=times.start, end=times.end, words=times.words)
        for segment, times in zip(segments, assigned, strict=True)
    ]
    end = speech_end(timed)
    if not closed and end is not None and end > position.start:
        next_seek = round(end * FRAMES_PER_SECOND)
    if (threshold := options.hallucination_silence_threshold) is None:
        return timed, next_seek, ""
    return HallucinationFilter(position, threshold, closed).without_hallucinations(timed, next_seek)
