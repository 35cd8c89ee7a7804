"""Decoding in a child process (child.py), which a damaged file may end."""

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

from max_whisper.errors import AudioError, MaxWhisperError
from max_whisper.messages import printable
from max_whisper.runtime.audio.decoding import STALLED_SECONDS, Outcome, Request, cannot_read
from max_whisper.runtime.audio.formats import HINT
from max_whisper.runtime.audio.recording import Storage, temporary_folder

CHILD = Path(__file__).with_name("child.py")
GRACE_SECONDS = 15
"""What the child is given beyond STALLED_SECONDS to say itself that it does not get on."""
_LONGEST_REPORT = 1 << 16
_CHUNK = 1 << 20


def decode_in_child(file: BinaryIO, request: Request, write: Callable[[bytes], None]) -> Outcome:
    """Decodes as `decoding.decode` does, in a process of its own.

    Raises AudioError when that process dies, or gives nothing for too long, and MaxWhisperError when it cannot start.
    """
    with _on_disk(file, request.name) as on_disk, _child(on_disk, request) as child:
        assert child.stdout and child.stderr
        something = select.poll()
        something.register(child.stdout)
        while something.poll(1000 * (STALLED_SECONDS + GRACE_SECONDS)):
            data = os.read(child.stdout.fileno(), 1 << 16)
            if data:
                write(data)
            else:  # it has ended
                return _outcome(child, child.stderr.read(_LONGEST_REPORT), request.name)
    raise AudioError(
        f"decoding {request.name} did not get on for {STALLED_SECONDS} s: it is damaged; convert it to {HINT}"
    )


@contextlib.contextmanager
def _child(file: BinaryIO | IO[bytes], request: Request) -> Iterator[subprocess.Popen[bytes]]:
    """The process at work; it has ended when this has."""
    words = json.dumps({"path": [str(path) for path in sys.path], "request": request._asdict()})
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", CHILD, words],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # numpy's threads take memory, and have nothing to do
        )
    except (OSError, TypeError, ValueError) as e:  # there need not be a sys.executable
        raise _not_started(str(e)) from e
    with child:
        try:
            yield child
        finally:
            child.kill()


def _outcome(child: subprocess.Popen[bytes], report: bytes, name: str) -> Outcome:
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    ready, _, words = report.decode(errors="replace").partition("\n")
    if ready != '{"ready": true}':
        raise _not_started(report.decode(errors="replace").strip().rpartition("\n")[2] or _how(child.returncode))
    try:
        said = json.loads(words)
    except ValueError:
        said = {}
    if child.returncode != 0 or not said:
        raise AudioError(
            f"{name} ended the process that decodes it ({_how(child.returncode)}): it is damaged; convert it to {HINT}"
        )
    if "error" in said:
        raise AudioError(said["error"])
    return Outcome(**said)


def _how(code: int | None) -> str:
    names = {-number: number.name for number in signal.Signals}
    return names.get(code or 0, f"exit code {code}")


def _not_started(why: str) -> MaxWhisperError:
    return MaxWhisperError(
        f"the process that decodes audio could not be started ({printable(why, 300)}): install max-whisper anew"
    )


@contextlib.contextmanager
def _on_disk(file: BinaryIO, name: str) -> Iterator[BinaryIO | IO[bytes]]:
    """The file, or a copy of it that has a file descriptor with the same bytes, at its beginning."""
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
    except Exception as e:  # a file object of the caller may raise anything
        raise AudioError(cannot_read(name, e)) from e
    copy.flush()
    return copy.file
