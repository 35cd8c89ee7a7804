"""Formats the times of a transcription for people and players."""

from __future__ import annotations

import math


def format_timestamp(seconds: float, *, hours: bool = False, decimal_marker: str = ".") -> str:
    """Returns seconds as [hh:]mm:ss.mmm; hours are left out while they are zero, unless they are asked for."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hour, minutes = divmod(minutes, 60)
    front = f"{hour:02d}:" if hours or hour else ""
    return f"{front}{minutes:02d}:{milliseconds // 1000:02d}{decimal_marker}{milliseconds % 1000:03d}"


def within_recording(start: float, end: float, duration: float) -> tuple[float, float]:
    """Returns start and end no later than the end of the recording, all in seconds.

    The text of the last window may have later times. Text that begins behind the recording is shown at its very end.
    """
    if end <= duration:
        return start, end
    last = math.floor(duration * 1000) / 1000  # files have milliseconds, and times are rounded
    return min(start, max(last - 0.001, 0.0)), last
