"""Decodes a file in a process that the file may end: `isolation.decode_in_child` runs this file as a script.

The process reads the file from standard input and writes samples to standard output. On standard error it writes one
line of JSON when it is ready, and one with the outcome. After its imports it can open no file, and has bounds on memory
and CPU time.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_MEMORY = 1 << 30
"""The bytes of memory that FFmpeg may take in a child process."""
MAX_CPU_SECONDS = 3600
"""The seconds of CPU time of a child process; 24 hours of sound take some minutes."""


def main() -> None:
    """Decodes what the JSON in the only argument asks for."""
    _end_with_parent()
    request = json.loads(sys.argv[1])
    sys.path[:] = request["path"]
    package = ModuleType("max_whisper")  # its __init__ would import more than this process needs
    package.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["max_whisper"] = package
    import av.subtitles.codeccontext
    import av.subtitles.stream
    import av.video.codeccontext  # noqa: F401 (PyAV imports these when it meets such a stream, when no file can be opened any more)

    from max_whisper.errors import AudioError
    from max_whisper.runtime.audio.decoding import Request, decode

    _report({"ready": True})
    _set_bounds()
    try:
        with os.fdopen(0, "rb", closefd=False) as file:
            outcome = decode(file, Request(**request["request"]), _write)
        _report({"warnings": outcome.warnings, "loudest_channel": outcome.loudest_channel})
    except AudioError as e:
        _report({"error": str(e)})


def _end_with_parent() -> None:
    """Makes the kernel end this process when its parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it as well, and ends this process


def _set_bounds() -> None:
    """Limits memory and CPU time, and forbids to open or write files."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, bound in [
        (resource.RLIMIT_AS, used + MAX_MEMORY),
        (resource.RLIMIT_CPU, MAX_CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ]:
        resource.setrlimit(kind, (bound, bound))


def _write(data: bytes) -> None:
    """Writes all bytes to standard output."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _report(words: dict[str, Any]) -> None:
    """Writes a line of JSON to standard error."""
    os.write(2, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()
    os._exit(0)
