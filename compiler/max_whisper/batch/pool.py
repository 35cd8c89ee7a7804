"""Runs workers (worker.py), each on cores of its own, and a new one in place of each that dies."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import msgspec

from max_whisper.batch.frames import FrameReader, encode, frame, write_all
from max_whisper.batch.protocol import (
    Broken,
    Died,
    Ended,
    FromWorker,
    Measure,
    Measured,
    OfRecording,
    Ready,
    Refused,
    Start,
    Stop,
    Stopped,
    Task,
    ToWorker,
)
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.messages import printable
from max_whisper.python_process import module_command

STARTS = 3
"""How often in a row a worker may end before it is ready, until that ends the run."""
GRACE = 1.0
"""The seconds that a process has to end when it has closed its output."""
_LAST_WORDS = 2000

Told: TypeAlias = "list[OfRecording | Measured]"


class Pool:
    """The workers of a run."""

    def __init__(self, artifact: Path, options: Mapping[str, Any], cores: Sequence[Sequence[int]]) -> None:
        """Starts the workers.

        Args:
            artifact: The folder of the model.
            options: The options of `Model.transcribe`.
            cores: The cores of each worker; empty ones for a worker that may use any.

        Raises:
            MaxWhisperError: No worker can be started.
        """
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        try:
            for mine in cores:
                self._workers.append(_Worker(Start(os.fsencode(artifact), {**options}, [*mine])))
                self._selector.register(self._workers[-1].output, selectors.EVENT_READ, self._workers[-1])
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def free(self) -> int:
        """The number of recordings that can be begun."""
        return sum(worker.free for worker in self._workers)

    @property
    def is_idle(self) -> bool:
        """Whether no recording is being transcribed."""
        return not any(worker.running for worker in self._workers)

    @property
    def is_ready(self) -> bool:
        """Whether all workers have loaded the model."""
        return all(worker.at_once for worker in self._workers)

    @property
    def processes(self) -> list[int]:
        """The ids of the processes."""
        return [worker.process.pid for worker in self._workers]

    def begin(self, task: Task) -> None:
        """Gives a recording to the worker that has the fewest."""
        worker = max(self._workers, key=lambda worker: worker.free)
        assert worker.free
        worker.running.add(task.number)
        worker.send(task)

    def measure(self, file: Path, seconds: float) -> None:
        """Asks each worker how fast it is with a recording, while the others are busy as well."""
        for worker in self._workers:
            worker.send(Measure(os.fsencode(file), seconds))

    def stop(self) -> None:
        """Lets each worker stop its recordings after their windows."""
        for worker in self._workers:
            worker.send(Stop())

    def poll(self, seconds: float) -> Told:
        """Returns what the workers told, waiting so long for it.

        Raises UserError or MaxWhisperError where a worker says that it cannot go on, or none can be started.
        """
        told: Told = []
        for chosen, _ in self._selector.select(seconds):
            worker: _Worker = chosen.data
            try:
                data = os.read(worker.output.fileno(), 1 << 20)
                messages = worker.messages(data)
            except ValueError as error:  # something else wrote there, such as a crash
                data, messages = b"", []
                worker.why = str(error)
            for message in messages:
                told += worker.take(message)
            if not data:
                told += self._replace(worker)
        return told

    def close(self) -> None:
        """Ends all workers at once. What they told is not lost, and what they did not tell is done again."""
        for worker in self._workers:
            worker.end()
        self._selector.close()

    def _replace(self, worker: _Worker) -> Told:
        """Starts a worker in place of one that died, and returns what is to be told of its recordings."""
        self._selector.unregister(worker.output)
        reason = worker.end(GRACE)
        starts = worker.starts + 1 if not worker.at_once else 0
        if starts >= STARTS:
            raise MaxWhisperError(
                f"a worker process ended {starts} times before it was ready ({reason}): it may need more memory than "
                "there is; give fewer --workers"
            )
        new = _Worker(worker.start, starts)
        self._workers[self._workers.index(worker)] = new
        self._selector.register(new.output, selectors.EVENT_READ, new)
        return [Died(number, reason) for number in sorted(worker.running)]


class _Worker:
    """A process, as its parent sees it.

    Attributes:
        at_once: The number of recordings that it transcribes at once; 0 until it is ready.
        running: The numbers of the recordings that it transcribes.
        starts: How often the processes before it have ended before they were ready.
    """

    def __init__(self, start: Start, starts: int = 0) -> None:
        self.start, self.starts = start, starts
        self.at_once = 0
        self.running: set[int] = set()
        self.why = ""
        self._frames = FrameReader()
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes it)
        try:
            self.process = subprocess.Popen(
                module_command("max_whisper.batch.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                bufsize=0,
            )
        except OSError as error:
            raise MaxWhisperError(f"a worker process could not be started: {error}") from error
        assert self.process.stdout is not None
        self.output: IO[bytes] = self.process.stdout
        self.send(start)

    @property
    def free(self) -> int:
        """The number of recordings that it can begin."""
        return self.at_once - len(self.running)

    def send(self, message: ToWorker) -> None:
        """Sends a message. A process that has ended gets none; whoever reads from it will notice."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            write_all(self.process.stdin.fileno(), frame(encode(message)))

    def messages(self, data: bytes) -> list[FromWorker]:
        """Returns the messages that are complete with these bytes."""
        return [msgspec.msgpack.decode(content, type=FromWorker) for content in self._frames.feed(data)]

    def take(self, message: FromWorker) -> Told:
        """Takes note of a message, and returns it if it is for the run."""
        if isinstance(message, Broken):
            raise (UserError if message.is_users else MaxWhisperError)(message.error)
        if isinstance(message, Ready):
            self.at_once = message.at_once
            return []
        if isinstance(message, Ended | Refused | Stopped):
            self.running.discard(message.number)
        return [message]

    def end(self, grace: float = 0) -> str:
        """Ends the process, unless it is about to end itself, and returns how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.process.kill()
        self.process.communicate()
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - _LAST_WORDS))
        lines = self._words.read().decode(errors="replace").split("\n")
        self._words.close()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        cause = _cause(self.process.returncode)
        return printable(self.why or (f"{cause}: {last}" if last else cause), 300)


def _cause(code: int) -> str:
    """Returns in words how a process ended."""
    if code == -signal.SIGKILL:
        return "SIGKILL, as where memory is short"
    names = {-number: number.name for number in signal.Signals}
    return names.get(code, f"exit code {code}")
