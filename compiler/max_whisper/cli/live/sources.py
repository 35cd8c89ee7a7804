"""Where the sound of `max-whisper live` comes from: standard input, or a file; microphone.py has the microphone."""

from __future__ import annotations

import select
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np

from max_whisper.cli.streams import check_input
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.audio.headers import PROBED_BYTES, kind_of
from max_whisper.runtime.audio.load import open_audio
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.runtime.streaming.backlog import Samples, SoundQueue

READ_BYTES = 1 << 16
REPLAYED_SECONDS = 0.1
"""The sound of a file that is played at once."""

Hear = Callable[[Samples], None]
"""Is told of all sound as it comes in."""


class Source(ABC):
    """Sound that comes in on a thread of its own.

    Attributes:
        name: What to call it in messages.
        sample_rate: The samples of a second.
        endless: Whether it goes on until it is stopped.
        error: Why it ended, where something went wrong; None otherwise.
        overflowed: Whether sound was lost before it came in.
    """

    endless = False
    overflowed = False

    def __init__(self, name: str, sample_rate: int) -> None:
        self.name = name
        self.sample_rate = sample_rate
        self.error: MaxWhisperError | None = None

    @abstractmethod
    def start(self, queue: SoundQueue, hear: Hear) -> None:
        """Begins to put sound into a queue, which is ended when no more comes."""

    @abstractmethod
    def stop(self) -> None:
        """Brings no more sound. May be called twice."""


class ReadSource(Source):
    """Sound that is read in a thread, and waits where too much of it does."""

    def __init__(self, name: str, sample_rate: int, read: Callable[[threading.Event], Iterator[Samples]]) -> None:
        """Takes a function that yields the samples. It gets an event that is set when no more are wanted."""
        super().__init__(name, sample_rate)
        self._read = read
        self._stopped = threading.Event()

    def start(self, queue: SoundQueue, hear: Hear) -> None:
        """Starts the thread. It is a daemon, as it may wait for standard input forever."""
        threading.Thread(target=self._run, args=(queue, hear), name="sound", daemon=True).start()

    def stop(self) -> None:
        """Makes the thread end with the next piece of sound."""
        self._stopped.set()

    def _run(self, queue: SoundQueue, hear: Hear) -> None:
        try:
            for samples in self._read(self._stopped):
                if self._stopped.is_set():
                    break
                hear(samples)
                if not queue.put(samples, wait=True):
                    break
        except MaxWhisperError as error:
            self.error = error
        except OSError as error:
            self.error = MaxWhisperError(f"{self.name} cannot be read any more ({error.strerror or error})")
        finally:
            queue.end()


def standard_input(sample_rate: int) -> Source:
    """Returns standard input as raw s16le, mono. Raises UserError where it cannot hold sound."""
    check_input()
    return ReadSource("standard input", sample_rate, _samples_of_stdin)


def replayed_file(name: str, speed: float) -> Source:
    """Returns a file that is replayed. speed: how many times as fast as it was recorded.

    Raises MaxWhisperError where it cannot be read.
    """
    recording = open_audio(name)
    return ReadSource(name, SAMPLE_RATE, lambda stopped: _replay(recording, speed, stopped))


def _samples_of_stdin(stopped: threading.Event) -> Iterator[Samples]:
    buffer = sys.stdin.buffer
    file = getattr(buffer, "raw", buffer)  # a lock of the buffer would be held by a thread that waits at the very end
    data, half = _beginning(file), b""
    while data:
        data = half + data
        half = data[len(data) - len(data) % 2 :]
        yield np.frombuffer(data, "<i2", len(data) // 2)
        if stopped.is_set():
            return
        data = _read(file)


def _beginning(file: IO[bytes]) -> bytes:
    """Returns the first bytes, as many as tell files from samples. Raises UserError where they are no samples."""
    beginning = b""
    while len(beginning) < PROBED_BYTES and (data := _read(file)):
        beginning += data
    if not beginning:
        raise UserError("standard input is empty, expected raw samples (s16le): check the command before the pipe")
    if (kind := kind_of(beginning)) is not None:
        raise UserError(
            f"standard input is {kind}, expected raw samples: ffmpeg -i FILE -f s16le -ac 1 -ar 16000 - writes them"
        )
    return beginning


def _read(file: IO[bytes]) -> bytes:
    """Returns the next bytes; none at the end."""
    while (data := file.read(READ_BYTES)) is None:  # another program made it non-blocking
        select.select([file], [], [])
    return data


def _replay(recording: Recording, speed: float, stopped: threading.Event) -> Iterator[Samples]:
    piece = round(REPLAYED_SECONDS * SAMPLE_RATE)
    started = time.monotonic()
    for first in range(0, len(recording), piece):
        samples = recording[first : first + piece]
        due = started + (first + len(samples)) / SAMPLE_RATE / speed  # a microphone has a sound when it is over
        if stopped.wait(max(0.0, due - time.monotonic())):
            return
        yield samples
