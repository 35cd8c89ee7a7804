"""Cuts a recording into the clips that are transcribed: those that the caller names, or those with speech."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from max_whisper.options import OptionError
from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, HOP
from max_whisper.runtime.vad.speech import Part

JOINED_WINDOWS = 4
"""Parts with speech are joined to clips of at most so many windows, which are transcribed independently of each other.

The last window of a clip can be short, and of short windows a model understands less; so there should be few clips.
"""


@dataclass(frozen=True)
class Clip:
    """A clip of a recording, in mel frames.

    Attributes:
        parts: The parts in which there is something to transcribe, each from its first frame up to, without, its last.
        last: The frame behind the last one of the clip, which may have padding behind its last part.
    """

    parts: tuple[tuple[int, int], ...]
    last: int

    @property
    def first(self) -> int:
        """The first frame."""
        return self.parts[0][0]

    def heard_from(self, frame: int) -> int:
        """Returns the first frame from `frame` on in which there is something to transcribe; `last` if there is none.

        In the padding behind a part there is not: a window of it alone would only make the model invent something.
        """
        return next((max(frame, first) for first, last in self.parts if frame < last), self.last)


def named_clips(times: tuple[float, ...], content: int) -> list[Clip]:
    """Returns the clips between times at which they begin and end in turn.

    Args:
        times: The times in seconds. Where the last clip has no end, it goes to the end of the recording.
        content: The number of frames of the recording.

    Raises:
        OptionError: A time is behind the end of the recording, where the reference makes up text.
    """
    frames = [round(time * FRAMES_PER_SECOND) for time in times or (0.0,)]
    if frames[-1] > content:
        raise OptionError(
            "{clip_timestamps}: expected times within the {seconds:g} seconds of the recording, got {last:g}",
            seconds=content / FRAMES_PER_SECOND,
            last=times[-1],
        )
    if len(frames) % 2:
        frames.append(content)
    return [Clip(((first, last),), last) for first, last in zip(frames[::2], frames[1::2], strict=True)]


def speech_clips(parts: Iterable[Part], content: int, longest: int) -> list[Clip]:
    """Returns the clips that hold all speech of a recording, in order.

    Args:
        parts: The parts with speech, in order.
        content: The number of frames of the recording.
        longest: The number of frames up to which parts are joined to a clip.
    """
    clips: list[list[Part]] = []
    for part in parts:
        if clips and part.last - clips[-1][0].first <= longest * HOP:
            clips[-1].append(part)
        else:
            clips.append([part])
    return [
        Clip(
            tuple((part.first // HOP, min(-(-part.speech_end // HOP), content)) for part in clip),
            min(-(-clip[-1].last // HOP), content),
        )
        for clip in clips
    ]
