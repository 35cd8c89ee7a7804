"""Detects voice activity by loudness, to transcribe only the parts of a recording that may hold speech.

There is no model: a frame is silent if it is hardly louder than the quietest ones and far below the loudest. Where
there is no silence, as in music or constant noise, everything counts as voice: a part too many costs time, one too few
costs text.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, LogMel

DIGITAL_SILENCE = -59.0
"""The loudness in dB up to which a frame has no sound at all; zeros are at -60."""
BELOW_LOUDEST = 30.0
"""Frames that are less than this many dB below the loudest one always count as voice."""
QUIETEST = 10
"""The percentile of the loudness of frames that counts as that of the quietest ones."""
_BLOCK = 60 * FRAMES_PER_SECOND

Clip = tuple[int, int]
"""The first frame of a part of a recording, and the frame behind its last one."""


def voice(
    mel: LogMel,
    content: int,
    longest: int,
    *,
    threshold: float = 10.0,
    min_silence: float = 2.0,
    speech_pad: float = 0.4,
) -> list[Clip]:
    """Returns the clips of the first `content` frames in which there may be a voice, in order.

    Args:
        mel: The spectrogram of the recording.
        content: The number of its frames without padding.
        longest: The number of frames up to which clips with a pause between them are joined, so that few windows are
            needed.
        threshold: How many decibels louder than the quietest frames voice is, at least.
        min_silence: The shortest pause between two clips in seconds.
        speech_pad: The time in seconds that is added to both ends of a clip.
    """
    loudness = _loudness(mel, content)
    if not len(loudness):
        return []
    quiet = min(np.percentile(loudness, QUIETEST) + threshold, loudness.max() - BELOW_LOUDEST)
    changes = np.flatnonzero(np.diff(loudness > max(quiet, DIGITAL_SILENCE), prepend=False, append=False))
    spoken = [(int(first), int(last)) for first, last in zip(changes[::2], changes[1::2], strict=True)]
    pad, pause = (round(seconds * FRAMES_PER_SECOND) for seconds in (speech_pad, min_silence))
    clips: list[Clip] = []
    for first, last in _without_short_pauses(spoken, pause):
        first, last = max(0, first - pad), min(content, last + pad)
        if clips and last - clips[-1][0] <= longest:
            clips[-1] = (clips[-1][0], last)
        else:
            clips.append((first, last))
    return clips


def _loudness(mel: LogMel, content: int) -> NDArray[np.float32]:
    """Returns the loudness of the loudest band of each frame in dB, float32 [content]."""
    parts = [mel.part(first, min(first + _BLOCK, content)).max(axis=0) for first in range(0, content, _BLOCK)]
    return np.concatenate(parts) * 40 if parts else np.zeros(0, np.float32)  # (log10 of the power + 4) / 4


def _without_short_pauses(spoken: list[Clip], pause: int) -> list[Clip]:
    """Returns the clips, with those joined that have less than `pause` frames between them."""
    cuts = [i for i, (before, after) in enumerate(pairwise(spoken), start=1) if after[0] - before[1] >= pause]
    return [(spoken[i][0], spoken[j - 1][1]) for i, j in pairwise([0, *cuts, len(spoken)]) if j > i]
