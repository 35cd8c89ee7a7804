"""Voice activity by loudness: which parts of a recording are worth transcribing.

No model: a frame is silent if it is hardly louder than the quietest ones and far below the loudest. Where there is no
silence, as in music or constant noise, all of it is voice: a part too many costs time, one too few costs text.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, LogMel

DIGITAL_SILENCE = -59.0  # dB, as `_loudness` has them: zeros are at -60
BELOW_LOUDEST = 30.0  # dB: whatever is louder than this is voice
QUIETEST = 10  # percent of the frames that tell how quiet the recording gets
_BLOCK = 60 * FRAMES_PER_SECOND

Clip = tuple[int, int]  # frames from and to


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

    longest: frames; clips with a pause between them stay together up to this length, so that few windows are needed.
    threshold: decibels above the quietest frames from which on a frame is voice.
    min_silence: seconds, the shortest pause that parts two clips.
    speech_pad: seconds that are added to both ends of a clip.
    """
    loudness = _loudness(mel, content)
    if not len(loudness):
        return []
    quiet = min(np.percentile(loudness, QUIETEST) + threshold, loudness.max() - BELOW_LOUDEST)
    changes = np.flatnonzero(np.diff(loudness > max(quiet, DIGITAL_SILENCE), prepend=False, append=False))
    spoken = [(int(first), int(last)) for first, last in zip(changes[::2], changes[1::2], strict=True)]
    pad, pause = (round(seconds * FRAMES_PER_SECOND) for seconds in (speech_pad, min_silence))
    clips: list[Clip] = []
    for first, last in _joined(spoken, pause):
        first, last = max(0, first - pad), min(content, last + pad)
        if clips and last - clips[-1][0] <= longest:
            clips[-1] = (clips[-1][0], last)
        else:
            clips.append((first, last))
    return clips


def _loudness(mel: LogMel, content: int) -> NDArray[np.float32]:
    """Float32 [content]: dB of the loudest band of each frame."""
    parts = [mel.part(first, min(first + _BLOCK, content)).max(axis=0) for first in range(0, content, _BLOCK)]
    return np.concatenate(parts) * 40 if parts else np.zeros(0, np.float32)  # (log10 of the power + 4) / 4


def _joined(spoken: list[Clip], pause: int) -> list[Clip]:
    """Those with less than a pause between them, as one."""
    cuts = [i for i, (before, after) in enumerate(pairwise(spoken), start=1) if after[0] - before[1] >= pause]
    return [(spoken[i][0], spoken[j - 1][1]) for i, j in pairwise([0, *cuts, len(spoken)]) if j > i]
