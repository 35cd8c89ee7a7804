"""The process that decodes a file which may end it: `isolation.decode_in_child` runs this file as a script.

It reads the file from standard input, writes samples to standard output, and on standard error one line of JSON when it
is ready and one with the outcome. After the imports it can open no file and write to none, and has bounds on memory and
CPU time.
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
"""Bytes that FFmpeg may take in a child process."""
MAX_CPU_SECONDS = 3600
"""The CPU time of a child process; 24 hours of sound take some minutes."""


def main() -> None:
    """Decodes as the JSON in the only argument says."""
    _end_with_parent()
    request = json.loads(sys.argv[1])
    sys.path[:] = request["path"]
    package = ModuleType("max_whisper")  # its own __init__ imports MAX
    package.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["max_whisper"] = package
    import av.subtitles.codeccontext
    import av.subtitles.stream
    import av.video.codeccontext  # noqa: F401 (PyAV imports these when it meets such a stream, and then it is too late)

    from max_whisper.errors import AudioError
    from max_whisper.runtime.audio.decoding import Request, decode

    _say({"ready": True})
    _set_bounds()
    try:
        with os.fdopen(0, "rb", closefd=False) as file:
            outcome = decode(file, Request(**request["request"]), _write)
        _say({"warnings": outcome.warnings, "louder": outcome.louder})
    except AudioError as e:
        _say({"error": str(e)})


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it as well, and ends this process


def _set_bounds() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, most in [
        (resource.RLIMIT_AS, used + MAX_MEMORY),
        (resource.RLIMIT_CPU, MAX_CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ]:
        resource.setrlimit(kind, (most, most))


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _say(words: dict[str, Any]) -> None:
    os.write(2, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main()
    os._exit(0)
