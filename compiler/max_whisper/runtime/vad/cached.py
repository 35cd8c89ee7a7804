"""Keeps Silero VAD in the user's cache, where it is compiled at its first use.

It is compiled in a process of its own, so that a program that transcribes never has the compiler in memory.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from max_whisper.artifact.engine import MAX_VERSION
from max_whisper.artifact.manifest import MANIFEST_FILE
from max_whisper.artifact.target import machine_features
from max_whisper.caches import user_cache
from max_whisper.errors import MaxWhisperError
from max_whisper.options import OptionError
from max_whisper.progress import OnProgress, Progress, ignore_progress

SPEC = "silero-vad.yaml"


def cached_detector(progress: OnProgress = ignore_progress) -> Path:
    """Returns the folder of Silero VAD for this machine and this version of MAX, compiled if it is not there yet.

    Args:
        progress: Called with each step of the build, which takes about half a minute.

    Raises:
        OptionError: The weights are not installed, or the cache cannot be written to.
        MaxWhisperError: The build failed.
    """
    if not is_cached():
        _build(detector_folder(), progress)
    return detector_folder()


def is_cached() -> bool:
    """Returns whether Silero VAD is in the cache."""
    return (detector_folder() / MANIFEST_FILE).exists()


def detector_folder() -> Path:
    """Returns the place of Silero VAD in the user's cache, which computers with other CPUs may share."""
    machine = sha256(" ".join(sorted(machine_features())).encode()).hexdigest()[:8]
    return user_cache() / f"{Path(SPEC).stem}-{MAX_VERSION}-{platform.machine()}-{machine}"


def _build(folder: Path, progress: OnProgress) -> None:
    """Runs `max-whisper build`, and reports its steps."""
    command = [sys.executable, "-m", "max_whisper", "build", "--spec", SPEC, "--out", str(folder)]
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    said = ""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | paths
        )
    except (OSError, TypeError) as e:  # there need not be a sys.executable
        raise MaxWhisperError(f"the voice detector could not be compiled: no Python could be started ({e})") from e
    with process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                said = line.decode(errors="replace").strip()
                if not said.startswith("error"):
                    progress(Progress(said.partition("s] ")[2] or said))  # the build's own clock is left out
        except BaseException:
            process.terminate()  # it removes what it has written so far
            raise
    if process.returncode == 0 or is_cached():  # another process may have been faster
        return
    why = said.removeprefix("error: ") or f"it ended with {process.returncode}"
    if process.returncode == 2:
        raise OptionError(
            "{vad_filter}: the voice detector could not be compiled: {why} (or name the folder of a compiled one by "
            "{vad_model}, or find speech by its loudness with {vad} loudness)",
            why=why,
        )
    raise MaxWhisperError(f"the voice detector could not be compiled: {why}")
