"""Cuts a recording into the clips that are transcribed: those that the caller names, or those with speech."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from max_whisper.options import OptionError
from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND, HOP
from max_whisper.runtime.vad.speech import Part

JOINED_WINDOWS = 4
"""Parts with speech are joined to clips of at most so many windows, where no shorter duration is asked for.

No window goes beyond its clip. The last one of a clip can be short, and of short windows a model understands less; so
there should be few clips. A model that computes several windows at once needs several clips.
"""


@dataclass(frozen=True)
class Clip:
    """A clip of a recording: its parts with something to transcribe, in frames, as `Part` has them in samples."""

    parts: tuple[Part, ...]

    @property
    def first(self) -> int:
        """The first frame."""
        return self.parts[0].first

    @property
    def last(self) -> int:
        """The frame behind the last one."""
        return self.parts[-1].last

    def heard_from(self, frame: int, *, unfinished: bool) -> int:
        """Returns the first frame from `frame` on in which there is something to transcribe; `last` if there is none.

        In the padding behind speech there is nothing, and a window of it alone would only make the model invent text;
        but where the window before was `unfinished`, the rest of its text may be there.
        """
        for part in self.parts:
            if frame < (part.last if unfinished else part.speech_end):
                return max(frame, part.first)
        return self.last


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
    return [Clip((Part(first, last, last),)) for first, last in zip(frames[::2], frames[1::2], strict=True)]


def speech_clips(parts: Iterable[Part], content: int, longest: float) -> list[Clip]:
    """Returns the clips that hold all speech of a recording, in order.

    Args:
        parts: The parts with speech in samples, in order.
        content: The number of frames of the recording.
        longest: The number of frames up to which parts are joined to a clip.
    """
    clips: list[list[Part]] = []
    for part in parts:
        speech_end, last = (min(-(-samples // HOP), content) for samples in (part.speech_end, part.last))
        in_frames = Part(part.first // HOP, speech_end, last)
        if clips and last - clips[-1][0].first <= longest:
            clips[-1].append(in_frames)
        else:
            clips.append([in_frames])
    return [Clip(tuple(clip)) for clip in clips]
