"""Finds the parts of a recording in which somebody speaks, by the probability of speech in each chunk.

The settings have the names and defaults of faster-whisper, whose rules are Silero's (`get_speech_timestamps`). The
parts are the same, except where speech is longer than `max_speech_duration_s`: there nothing is left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from max_whisper.runtime.audio.waveform import SAMPLE_RATE

SHORTEST_CUT_MS = 98
"""Speech that is too long is cut at pauses that are longer than this."""
BELOW_THRESHOLD = 0.15
LOWEST_THRESHOLD = 0.01


class Part(NamedTuple):
    """A part of a recording with speech, in samples or in mel frames.

    Attributes:
        first: The first one, which is that of the padding before the speech.
        speech_end: The one behind the last with speech.
        last: The one behind the last of the padding.
    """

    first: int
    speech_end: int
    last: int


@dataclass(frozen=True)
class SpeechSettings:
    """How probabilities become parts with speech.

    Attributes:
        threshold: Speech begins at this probability.
        neg_threshold: Speech may end below this probability; None is BELOW_THRESHOLD less than `threshold`, and at
            least LOWEST_THRESHOLD.
        min_speech_duration_ms: Parts that are not longer than this, before they are cut, are left out.
        max_speech_duration_s: Longer parts are cut: at the last pause before, or else there. None is no limit.
        min_silence_duration_ms: A part ends at a pause of this length.
        speech_pad_ms: The time that is added to both ends of a part; half of the pause where that is shorter.
    """

    threshold: float = 0.5
    neg_threshold: float | None = None
    min_speech_duration_ms: float = 0
    max_speech_duration_s: float | None = None
    min_silence_duration_ms: float = 2000
    speech_pad_ms: float = 400

    @property
    def end_threshold(self) -> float:
        """The probability below which speech may end."""
        lower = max(self.threshold - BELOW_THRESHOLD, LOWEST_THRESHOLD)
        return lower if self.neg_threshold is None else self.neg_threshold

    @property
    def pad(self) -> int:
        """The samples that are added to both ends of a part."""
        return int(self.speech_pad_ms * SAMPLE_RATE / 1000)


@dataclass(frozen=True)
class _Pause:
    """A pause after speech, in chunks: the first and the last silent one, and the one where speech goes on."""

    first: int
    last: int
    speech: int

    def milliseconds(self, chunk: int) -> float:
        """Returns the length of the pause, which ends at the beginning of its last silent chunk."""
        return (self.last - self.first) * chunk * 1000 / SAMPLE_RATE


@dataclass(frozen=True)
class _Speech:
    """A part with speech, in chunks: the first, the one behind the last, and the pauses at which it may be cut."""

    first: int
    last: int
    pauses: list[_Pause]


def speech_parts(
    probabilities: NDArray[np.floating], n_samples: int, chunk: int, settings: SpeechSettings
) -> list[Part]:
    """Returns the parts of a recording with speech, in order; none overlap.

    Args:
        probabilities: The probability of speech in each chunk, [chunks].
        n_samples: The samples of the recording.
        chunk: The samples of a chunk.
        settings: The settings.
    """
    shortest = settings.min_speech_duration_ms * SAMPLE_RATE / 1000
    pieces = [
        (first * chunk, min(last * chunk, n_samples))
        for part in _in_chunks(probabilities, chunk, settings)
        if min(part.last * chunk, n_samples) - part.first * chunk > shortest
        for first, last in _cut(part, chunk, settings)
    ]
    return _padded(pieces, n_samples, settings.pad)


def up_to_ends(parts: Sequence[Part], n_samples: int, settings: SpeechSettings) -> list[Part]:
    """Returns the parts, with the pause before the first and behind the last one where it is too short to end a part.

    A recording without longer pauses is then one part, and heard as it is. Parts with a longest duration are left as
    they are.
    """
    if settings.max_speech_duration_s is not None:
        return [*parts]
    pause = settings.min_silence_duration_ms * SAMPLE_RATE / 1000
    extended = [*parts]
    if extended and extended[0].first < pause:
        extended[0] = extended[0]._replace(first=0)
    if extended and n_samples - extended[-1].last < pause:
        extended[-1] = extended[-1]._replace(last=n_samples)
    return extended


def _in_chunks(probabilities: NDArray[np.floating], chunk: int, settings: SpeechSettings) -> Iterator[_Speech]:
    """Yields the parts with speech, which are not cut yet."""
    spoken = np.flatnonzero(probabilities >= settings.threshold)
    if not len(spoken):
        return
    first, pauses = int(spoken[0]), list[_Pause]()
    for pause in _pauses(probabilities, spoken, settings.end_threshold):
        if pause.milliseconds(chunk) >= settings.min_silence_duration_ms:
            yield _Speech(first, pause.first, pauses)
            first, pauses = pause.speech, []
        elif pause.milliseconds(chunk) > SHORTEST_CUT_MS:
            pauses.append(pause)
    if first < len(probabilities):
        yield _Speech(first, len(probabilities), pauses)


def _pauses(probabilities: NDArray[np.floating], spoken: NDArray[np.intp], threshold: float) -> Iterator[_Pause]:
    """Yields the pauses after chunks with speech; chunks below the threshold are silent, others need not be either."""
    silent = np.flatnonzero(probabilities < threshold)
    following = np.append(spoken[1:], len(probabilities))
    apart = following - spoken > 1
    for before, after in zip(spoken[apart], following[apart], strict=True):
        begin, end = np.searchsorted(silent, (before, after))
        if end > begin:
            yield _Pause(int(silent[begin]), int(silent[end - 1]), int(after))


def _cut(speech: _Speech, chunk: int, settings: SpeechSettings) -> Iterator[tuple[int, int]]:
    """Yields a part with speech in pieces that are, with padding, not longer than the settings say."""
    first, last = speech.first, speech.last
    if settings.max_speech_duration_s is not None:
        longest = max(1, int((settings.max_speech_duration_s * SAMPLE_RATE - 2 * settings.pad) // chunk))
        while last - first > longest:
            i = bisect_right(speech.pauses, first + longest, key=lambda pause: pause.first) - 1
            if i >= 0 and speech.pauses[i].first > first and speech.pauses[i].speech < last:
                yield first, speech.pauses[i].first
                first = speech.pauses[i].speech
            else:
                yield first, first + longest
                first += longest
    yield first, last


def _padded(spoken: Sequence[tuple[int, int]], n_samples: int, pad: int) -> list[Part]:
    """Returns the parts with `pad` samples more at both ends, or with half of what lies between two."""
    halves = [min(pad, (after[0] - before[1]) // 2) for before, after in pairwise(spoken)]
    return [
        Part(max(0, first - before), last, min(n_samples, last + behind))
        for (first, last), before, behind in zip(spoken, [pad, *halves], [*halves, pad], strict=False)
    ]
