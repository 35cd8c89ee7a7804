"""Where the windows of a recording begin and end, and which windows of an interrupted run belong to which clip."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from max_whisper.errors import UserError
from max_whisper.runtime.audio.mel import FRAMES_PER_SECOND
from max_whisper.runtime.results import Window
from max_whisper.runtime.transcription.clips import Clip


@dataclass(frozen=True)
class WindowPlaces:
    """The places of the windows of one recording, each of which begins where the text of the one before it ends.

    Attributes:
        content: The number of frames of the recording.
        n_frames: The number of frames that a window can have.
        timestamp_begin: The id of the first timestamp.
    """

    content: int
    n_frames: int
    timestamp_begin: int

    def length(self, seek: int, clip: Clip) -> int:
        """Returns the number of frames of the window of a clip that begins at the frame `seek`."""
        return min(self.n_frames, self.content - seek, clip.last - seek)

    def times(self, seek: int, length: int) -> tuple[float, float]:
        """Returns the times at which the sound of a window begins and ends, in seconds."""
        return seek / FRAMES_PER_SECOND, (seek + length) / FRAMES_PER_SECOND

    def after(self, window: Window, clip: Clip) -> int:
        """Returns the frame at which the next window of a clip begins; the end of the clip where there is none."""
        tokens = window.result.tokens  # behind the last timestamps, for example, there may be more text than segments
        unfinished = not window.skipped and bool(tokens) and tokens[-1] < self.timestamp_begin
        return clip.heard_from(window.seek, unfinished=unfinished)

    def by_clip(self, windows: Iterable[Window], clips: Sequence[Clip]) -> list[list[Window]]:
        """Returns the windows of each clip, given the first windows of a recording in their order.

        Raises UserError where a window is not where it must be.
        """
        left = deque(enumerate(windows, 1))
        of_clips: list[list[Window]] = [[] for _ in clips]
        for clip, done in zip(clips, of_clips, strict=True):
            seek = clip.first
            while left and seek < clip.last:
                number, window = left.popleft()
                start, end = self.times(seek, self.length(seek, clip))
                if (window.start, window.end) != (start, end):
                    raise UserError(
                        f"windows: window {number} goes from {window.start:g} to {window.end:g} s, where this "
                        f"recording has one from {start:g} to {end:g} s; resume with the recording and options of the "
                        "first run"
                    )
                done.append(window)
                seek = self.after(window, clip)
        if left:
            raise UserError(
                f"windows: there are {len(left)} more than this recording has; "
                "resume with the recording and options of the first run"
            )
        return of_clips
