"""Reads how long recordings are, by their headers, in a process that a file may end: `order.py` runs this module.

It reads paths from standard input, as frames, and writes the seconds of each to standard output; 0 stands for unknown.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import msgspec

from max_whisper.batch.frames import FrameReader, encode, frame, write_all
from max_whisper.files import open_regular
from max_whisper.runtime.audio.container import FFmpegInput, open_container
from max_whisper.runtime.audio.recording import MAX_HOURS
from max_whisper.runtime.audio.tracks import choose_track

MAX_MEMORY = 1 << 30
"""The bytes of memory that FFmpeg may take."""


def main() -> None:
    """Answers until standard input ends."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent has it as well, and ends this process
    _set_bounds()
    reader = FrameReader()
    while data := os.read(0, 1 << 16):
        for content in reader.feed(data):
            path = os.fsdecode(msgspec.msgpack.decode(content, type=bytes))
            write_all(1, frame(encode(seconds_of(path))))


def seconds_of(path: str) -> float:
    """Returns how long a recording is by its header; 0.0 where that is not known, or it cannot be opened."""
    try:
        with (
            open_regular(Path(path)) as file,
            open_container(FFmpegInput(file, Path(path).suffix), path, common=False, log=[]) as container,
        ):
            stream = choose_track(container, None, path)
            if stream.duration is not None and stream.time_base is not None:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = (container.duration or 0) / 1_000_000
    except Exception:  # of a file, or of the library; whoever transcribes it says what is wrong
        return 0.0
    return min(max(seconds, 0.0), MAX_HOURS * 3600.0)


def _set_bounds() -> None:
    """Limits memory, and forbids to write files."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, bound in [(resource.RLIMIT_AS, used + MAX_MEMORY), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)]:
        resource.setrlimit(kind, (bound, bound))


if __name__ == "__main__":
    main()
