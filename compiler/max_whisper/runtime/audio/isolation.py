"""Decodes in a child process (child.py), which a damaged file may end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from max_whisper.errors import AudioError, Cancelled, MaxWhisperError
from max_whisper.messages import printable
from max_whisper.runtime.audio.container import cannot_read
from max_whisper.runtime.audio.decoding import STALLED_SECONDS, Outcome, Request
from max_whisper.runtime.audio.formats import HINT
from max_whisper.runtime.audio.recording import Storage, temporary_folder

CHILD = Path(__file__).with_name("child.py")
GRACE_SECONDS = 15
"""The seconds beyond STALLED_SECONDS that the child has to report by itself that it makes no progress."""
CHECK_SECONDS = 0.1
"""The seconds between two looks at whether to stop, while the child gives no samples."""
VARIABLES = ("LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE")
"""The variables of this process that the child needs: where libraries are, and how the names of files are encoded."""
_LONGEST_REPORT = 1 << 16
_CHUNK = 1 << 20


def decode_in_child(
    file: BinaryIO,
    request: Request,
    write: Callable[[bytes], None],
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Decodes as `decoding.decode` does, in a process of its own.

    Args:
        file: A file with a file descriptor, or any other binary file, which is copied.
        request: What to decode of it.
        write: Called with the samples as they come.
        stop: Returns whether to end the process and stop.

    Raises:
        AudioError: The file cannot be decoded, or the process dies, or gives no samples for too long.
        Cancelled: `stop()` returned True.
        MaxWhisperError: The process cannot start.
    """
    with _on_disk(file, request.name) as on_disk, _child(on_disk, request) as child:
        assert child.stdout and child.stderr
        readable = select.poll()
        readable.register(child.stdout)
        stalled = 0.0
        while stalled < STALLED_SECONDS + GRACE_SECONDS:
            if stop():
                raise Cancelled
            if not readable.poll(1000 * CHECK_SECONDS):
                stalled += CHECK_SECONDS
                continue
            stalled = 0.0
            data = os.read(child.stdout.fileno(), 1 << 16)
            if data:
                write(data)
            else:  # it has ended
                return _outcome(child, child.stderr.read(_LONGEST_REPORT), request.name)
    raise AudioError(
        f"decoding {request.name} made no progress for {STALLED_SECONDS} s: it is damaged; convert it to {HINT}"
    )


@contextlib.contextmanager
def _child(file: BinaryIO | IO[bytes], request: Request) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the process, and ends it when the block ends."""
    argument = json.dumps({"path": [str(path) for path in sys.path], "request": request._asdict()})
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", CHILD, argument],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(),
        )
    except (OSError, TypeError, ValueError) as e:  # there need not be a sys.executable
        raise _not_started(str(e)) from e
    with child:
        try:
            yield child
        finally:
            child.kill()


def _environment() -> dict[str, str]:
    """Returns the variables that the process gets: a file that takes it over must find no keys of this one in them."""
    kept = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {**kept, "OPENBLAS_NUM_THREADS": "1"}  # more threads of numpy would only take memory


def _outcome(child: subprocess.Popen[bytes], report: bytes, name: str) -> Outcome:
    """Returns what a process that has closed its output reported. Raises AudioError where it died or found an error."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    ready, _, outcome = report.decode(errors="replace").partition("\n")
    if ready != '{"ready": true}':
        why = report.decode(errors="replace").strip().rpartition("\n")[2] or _exit_cause(child.returncode)
        raise _not_started(why, killed=child.returncode == -signal.SIGKILL)
    try:
        result = json.loads(outcome)
    except ValueError:
        result = {}
    if child.returncode != 0 or not result:
        raise AudioError(
            f"{name} ended the process that decodes it ({_exit_cause(child.returncode)}): it is damaged; "
            f"convert it to {HINT}"
        )
    if "error" in result:
        raise AudioError(result["error"])
    return Outcome(**result)


def _exit_cause(code: int | None) -> str:
    """Returns the name of the signal that ended a process, or its exit code in words."""
    names = {-number: number.name for number in signal.Signals}
    return names.get(code or 0, f"exit code {code}")


def _not_started(why: str, killed: bool = False) -> MaxWhisperError:
    """Returns the error for a process that did not start. killed: another one, or the system, ended it."""
    remedy = "try again, and with more free memory if it happens again" if killed else "install max-whisper again"
    return MaxWhisperError(f"the process that decodes audio could not be started ({printable(why, 300)}): {remedy}")


@contextlib.contextmanager
def _on_disk(file: BinaryIO, name: str) -> Iterator[BinaryIO | IO[bytes]]:
    """Yields the file or a copy of it, whichever has a file descriptor for its bytes, at its beginning."""
    with contextlib.ExitStack() as stack:
        on_disk: BinaryIO | IO[bytes] = file
        if isinstance(file, tempfile.SpooledTemporaryFile):
            with temporary_folder():
                file.rollover()
        elif not (isinstance(file, io.BufferedReader | io.BufferedRandom) and isinstance(file.raw, io.FileIO)):
            on_disk = _copy(file, name)
            stack.callback(on_disk.close)
        os.lseek(on_disk.fileno(), 0, os.SEEK_SET)
        yield on_disk


def _copy(file: BinaryIO, name: str) -> IO[bytes]:
    copy = Storage(in_memory=1)
    try:
        while data := file.read(_CHUNK):
            copy.write(data)
    except MaxWhisperError:
        raise
    except Exception as e:  # the caller's file object may raise anything
        raise AudioError(cannot_read(name, e)) from e
    copy.flush()
    return copy.file
