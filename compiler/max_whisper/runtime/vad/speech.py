"""Finds the parts of a recording in which somebody speaks, by the probability of speech in each chunk.

The settings have the names and defaults of faster-whisper, whose rules are Silero's (`get_speech_timestamps`). The
parts are the same, except where speech is longer than `max_speech_duration_s`: nothing is left out there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SHORTEST_CUT_MS = 98
"""The shortest pause at which speech is cut that is too long."""

Part = tuple[int, int]
"""The first sample of a part of a recording, and the sample behind its last one."""


@dataclass(frozen=True)
class SpeechSettings:
    """How probabilities become parts with speech.

    Attributes:
        threshold: Speech begins at this probability.
        neg_threshold: Speech may end below this probability; None is 0.15 less than `threshold`, and at least 0.01.
        min_speech_duration_ms: Parts that are not longer than this are left out.
        max_speech_duration_s: Longer parts are cut: at the last pause before, or else there.
        min_silence_duration_ms: Speech ends at a pause of this length.
        speech_pad_ms: The time that is added to both ends of a part; half of the pause where that is shorter.
    """

    threshold: float = 0.5
    neg_threshold: float | None = None
    min_speech_duration_ms: float = 0
    max_speech_duration_s: float = math.inf
    min_silence_duration_ms: float = 2000
    speech_pad_ms: float = 400

    @property
    def end_threshold(self) -> float:
        """The probability below which speech may end."""
        return max(self.threshold - 0.15, 0.01) if self.neg_threshold is None else self.neg_threshold


@dataclass(frozen=True)
class Pause:
    """A pause after speech.

    Attributes:
        first: The first silent chunk.
        last: The last silent chunk; those between may be neither.
        speech: The chunk in which somebody speaks again, or the number of chunks at the end of the recording.
    """

    first: int
    last: int
    speech: int

    @property
    def chunks(self) -> int:
        """The length of the pause, from its first silent chunk to its last one."""
        return self.last - self.first


def speech_parts(
    probabilities: NDArray[np.float32],
    n_samples: int,
    settings: SpeechSettings,
    *,
    chunk: int = 512,
    sample_rate: int = 16000,
) -> list[Part]:
    """Returns the parts of a recording with speech, in order; none overlap.

    Args:
        probabilities: The probability of speech in each chunk, [chunks].
        n_samples: The samples of the recording.
        settings: The settings.
        chunk: The samples of a chunk.
        sample_rate: The samples of a second.
    """
    pad = int(settings.speech_pad_ms * sample_rate / 1000)
    longest = int((settings.max_speech_duration_s * sample_rate - 2 * pad) // chunk) if _bounded(settings) else None
    parts = [
        (first * chunk, min(last * chunk, n_samples))
        for first, last in _in_chunks(probabilities, settings, 1000 * chunk / sample_rate, longest)
    ]
    least = settings.min_speech_duration_ms * sample_rate / 1000
    return _padded([(first, last) for first, last in parts if last - first > least], n_samples, pad)


def _bounded(settings: SpeechSettings) -> bool:
    return math.isfinite(settings.max_speech_duration_s)


def _in_chunks(
    probabilities: NDArray[np.float32], settings: SpeechSettings, chunk_ms: float, longest: int | None
) -> Iterator[tuple[int, int]]:
    """Yields the first chunk of each part with speech, and the chunk behind its last one."""
    spoken = np.flatnonzero(probabilities >= settings.threshold)
    if not len(spoken):
        return
    first, cuts = int(spoken[0]), list[Pause]()
    for pause in _pauses(probabilities, spoken, settings.end_threshold):
        if pause.chunks * chunk_ms >= settings.min_silence_duration_ms:
            yield from _cut(first, pause.first, cuts, longest)
            first, cuts = pause.speech, []
        elif pause.chunks * chunk_ms > SHORTEST_CUT_MS:
            cuts.append(pause)
    if first < len(probabilities):
        yield from _cut(first, len(probabilities), cuts, longest)


def _pauses(probabilities: NDArray[np.float32], spoken: NDArray[np.int64], threshold: float) -> Iterator[Pause]:
    """Yields the pauses after chunks with speech; chunks below the threshold are silent."""
    silent = np.flatnonzero(probabilities < threshold)
    following = np.append(spoken[1:], len(probabilities))
    apart = following - spoken > 1
    for before, after in zip(spoken[apart], following[apart], strict=True):
        begin, end = np.searchsorted(silent, (before, after))
        if end > begin:
            yield Pause(int(silent[begin]), int(silent[end - 1]), int(after))


def _cut(first: int, last: int, pauses: Sequence[Pause], longest: int | None) -> Iterator[tuple[int, int]]:
    """Yields a part with speech in pieces of at most `longest` chunks."""
    while longest is not None and last - first > longest:
        usable = [pause for pause in pauses if first < pause.first <= first + longest and pause.speech < last]
        end, after = (usable[-1].first, usable[-1].speech) if usable else (first + max(1, longest),) * 2
        yield first, end
        first = after
    yield first, last


def _padded(parts: Sequence[Part], n_samples: int, pad: int) -> list[Part]:
    """Returns the parts with `pad` samples more at either end, or half of what lies between two."""
    halves = [min(pad, (after[0] - before[1]) // 2) for before, after in pairwise(parts)]
    return [
        (max(0, first - before), min(n_samples, last + behind))
        for (first, last), before, behind in zip(parts, [pad, *halves], [*halves, pad], strict=False)
    ]
