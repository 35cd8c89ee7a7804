"""Finds how long recordings are, without decoding them: the longest are begun first, so that all cores end together."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from max_whisper.batch.frames import FrameReader, encode, frame, write_all
from max_whisper.batch.inputs.source import Source
from max_whisper.errors import MaxWhisperError
from max_whisper.python_process import module_command

PATIENCE = 20.0
"""The seconds that a header may take."""
USUAL_RATE = 16_000
"""The bytes of a second where the header does not say how long a recording is: those of an MP3 of 128 kbit/s."""
_AT_LEAST = 16
"""The recordings for which another process is worth its start."""


def durations(
    sources: Sequence[Source], processes: int, done: Callable[[int], None], stop: Callable[[], bool]
) -> list[float]:
    """Returns how many seconds each recording lasts, as far as its header or else its size says.

    Args:
        sources: The recordings.
        processes: The number of processes that read headers at the same time.
        done: Called with the number of recordings that are done, from any thread.
        stop: Returns whether to stop, with what is known by then.

    Raises:
        MaxWhisperError: No process can be started.
    """
    found = [0.0] * len(sources)
    waiting = iter([index for index, source in enumerate(sources) if not source.is_remote])  # one for all threads
    counts = itertools.count(1)

    def work() -> None:
        with contextlib.closing(_Prober()) as prober:
            for index in waiting:
                if stop():
                    return
                found[index] = prober.seconds(sources[index].place)
                done(next(counts))

    workers = max(1, min(processes, len(sources) // _AT_LEAST))
    with ThreadPoolExecutor(workers) as threads:
        for result in [threads.submit(work) for _ in range(workers)]:
            result.result()
    return [seconds or source.size / USUAL_RATE for seconds, source in zip(found, sources, strict=True)]


class _Prober:
    """A process that reads headers; a new one takes the place of one that a file has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def seconds(self, path: str) -> float:
        """Returns how long a recording is; 0.0 where that is not known."""
        try:
            process = self._process = self._process or _start()
        except OSError as error:
            raise MaxWhisperError(f"a process that reads headers could not be started: {error}") from error
        assert process.stdin and process.stdout
        reader = FrameReader()
        try:
            write_all(process.stdin.fileno(), frame(encode(os.fsencode(path))))
            while select.select([process.stdout], [], [], PATIENCE)[0]:
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                for content in reader.feed(data):
                    return msgspec.msgpack.decode(content, type=float)
        except BrokenPipeError:
            pass
        self.close()
        return 0.0

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        module_command("max_whisper.batch.probe"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
