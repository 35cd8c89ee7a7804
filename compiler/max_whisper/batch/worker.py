"""A worker: a process with cores of its own that transcribes the recordings that it is given (`pool.py` runs it).

The main thread reads what is asked for, so that the process ends as soon as its parent does. As many threads transcribe
as the artifact has rows in a batch, and share the batches.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from max_whisper.batch.checkpoints import read_windows
from max_whisper.batch.frames import FrameReader, encode, frame, write_all
from max_whisper.batch.protocol import (
    Broken,
    Ended,
    FromWorker,
    Heard,
    Measure,
    Measured,
    Opened,
    Ready,
    Refused,
    Start,
    Stop,
    Stopped,
    Task,
    ToWorker,
)
from max_whisper.batch.rows import recording_row
from max_whisper.errors import Cancelled, MaxWhisperError, UserError

if TYPE_CHECKING:
    from max_whisper.runtime.model import Model

MEASURED_SECONDS = 120
"""The seconds at the beginning of a recording with which speed is measured."""


def main() -> None:
    """Works until standard input ends."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all; the parent ends this process
        signal.signal(number, signal.SIG_IGN)
    asked, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # whatever prints must not break the messages
    worker = _Worker(answers)
    reader = FrameReader()
    while data := os.read(asked, 1 << 16):
        for content in reader.feed(data):
            worker.take(msgspec.msgpack.decode(content, type=ToWorker))
    os._exit(0)  # the threads may be anywhere in MAX


class _Worker:
    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._sending = threading.Lock()
        self._tasks: queue.SimpleQueue[Task | Measure] = queue.SimpleQueue()
        self._stopping = False

    def take(self, message: ToWorker) -> None:
        """Takes a message of the parent."""
        if isinstance(message, Start):
            threading.Thread(target=self._start, args=(message,), daemon=True).start()
        elif isinstance(message, Stop):
            self._stopping = True
        else:
            self._tasks.put(message)

    def _send(self, message: FromWorker) -> None:
        with self._sending:
            write_all(self._answers, frame(encode(message)))

    def _start(self, start: Start) -> None:
        """Loads the model, and transcribes with it from then on."""
        try:
            if start.cores:
                # Before MAX is imported, which starts a thread for each core that the main thread may use.
                for number in (0, os.getpid()):
                    os.sched_setaffinity(number, start.cores)
            from max_whisper.artifact.cores import core_sharing
            from max_whisper.runtime.model import load

            with core_sharing:  # these cores are in use, whatever recording is read just now
                model = load(os.fsdecode(start.artifact))
                at_once = model.scheduler.batch
                self._send(Ready(at_once))
                threads = [threading.Thread(target=self._work, args=(model, start.options)) for _ in range(at_once)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        except BaseException as error:
            self._break(error)

    def _work(self, model: Model, options: dict[str, Any]) -> None:
        """Does what is asked for, one thing after another."""
        chosen = {**options}
        track = chosen.pop("audio_track", None)
        while True:
            task = self._tasks.get()
            try:
                if isinstance(task, Measure):
                    self._send(Measured(_rate(model, task, track, chosen)))
                else:
                    self._transcribe(model, task, track, chosen)
            except UserError as error:
                if isinstance(task, Measure):
                    self._send(Measured(0.0))
                else:
                    self._send(Refused(task.number, str(error)))
            except Cancelled:
                assert isinstance(task, Task)
                self._send(Stopped(task.number))
            except (MaxWhisperError, MemoryError, OSError) as error:  # of the machine, and not of the recording
                self._break(error)
            except Exception as error:
                assert isinstance(task, Task)
                self._send(Refused(task.number, f"{type(error).__name__}: {error}: this is a bug of max-whisper"))

    def _transcribe(self, model: Model, task: Task, track: int | None, options: dict[str, Any]) -> None:
        from max_whisper.runtime.audio.load import open_audio

        path = Path(os.fsdecode(task.file))  # no text: a file may be called "-"
        sound = open_audio(path, track=track, name=task.name, stop=lambda: self._stopping)
        transcriber = model.transcriber(sound, **options)
        windows = read_windows(Path(os.fsdecode(task.windows))) if task.windows else []
        try:
            transcriber.resume(windows)
        except UserError:  # another version of max-whisper cuts windows elsewhere
            windows = []
        self._send(Opened(task.number, transcriber.seconds, len(windows), windows[-1].end if windows else 0.0))
        for window in transcriber:
            self._send(Heard(task.number, transcriber.progress(window).done, encode(window)))
            if self._stopping and window.end < transcriber.seconds:
                raise Cancelled
        row = recording_row(task.name, task.key, transcriber.result(), sound.warnings)
        sound.close()
        self._send(Ended(task.number, msgspec.json.encode(row)))

    def _break(self, error: BaseException) -> None:
        """Tells the parent why this process cannot go on, and ends it."""
        if not isinstance(error, MemoryError):  # another worker may have room
            known = isinstance(error, MaxWhisperError)
            words = str(error) if known else f"{type(error).__name__}: {error}"
            self._send(Broken(words, isinstance(error, UserError)))
        os._exit(1)


def _rate(model: Model, task: Measure, track: int | None, options: dict[str, Any]) -> float:
    """Returns the seconds of sound that are transcribed in a second.

    The first window does not count, in which memory is touched for the first time.
    """
    from max_whisper.runtime.audio.load import open_audio
    from max_whisper.runtime.audio.waveform import SAMPLE_RATE

    sound = open_audio(Path(os.fsdecode(task.file)), track=track)[: MEASURED_SECONDS * SAMPLE_RATE]
    next(iter(model.transcriber(sound, **options)), None)
    started, heard = time.monotonic(), 0.0
    while True:
        begun = heard
        for window in model.transcriber(sound, **options):
            heard = begun + window.end
            if time.monotonic() - started > task.seconds:
                return heard / (time.monotonic() - started)
        if heard == begun:
            return 0.0


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the parent has ended
        sys.exit(1)
