"""Finds the voice detector of a transcription: a folder that the caller names, or Silero VAD in the user's cache.

Silero VAD is compiled to the cache at its first use. That is done in a process of its own, so that a program that
transcribes never has the compiler in memory.
"""

from __future__ import annotations

import os
import platform
import subprocess
from hashlib import sha256
from os import PathLike
from pathlib import Path

from max_whisper.artifact.engine import MAX_VERSION
from max_whisper.artifact.manifest import MANIFEST_FILE, MANIFEST_VERSION
from max_whisper.artifact.rebuild import package_version
from max_whisper.artifact.target import machine_features
from max_whisper.caches import user_cache
from max_whisper.errors import MaxWhisperError
from max_whisper.files import expanded, is_folder
from max_whisper.options import OptionError
from max_whisper.progress import OnProgress, Progress, ignore_progress
from max_whisper.python_process import module_command
from max_whisper.resources import shipped_folder

SPEC = "silero-vad.yaml"
BY_LOUDNESS = "name a compiled one by {vad_model}, or find speech by its loudness with {vad} loudness"


def find_detector(
    named: str | PathLike[str] | None, progress: OnProgress = ignore_progress, instead: str = BY_LOUDNESS
) -> Path:
    """Returns the folder of a voice detector.

    Args:
        named: The folder that the caller names; None is Silero VAD, which is compiled if it is not in the cache.
        progress: Called with each step of the build, which takes half a minute.
        instead: What the caller may do without a detector, for messages.

    Raises:
        OptionError: There is no such folder, the weights of Silero VAD are not installed, or the cache cannot be
            written to.
        MaxWhisperError: The build failed.
    """
    if named is None:
        folder = cached_folder()
        if not _is_built(folder):
            _build(folder, progress, instead)
        return folder
    folder = expanded(named)
    if not is_folder(folder):
        raise OptionError(
            "{vad_model}: there is no folder {folder}; make it with: max-whisper build --spec {spec} --out {folder}",
            folder=folder,
            spec=SPEC,
        )
    return folder


def is_cached() -> bool:
    """Returns whether Silero VAD is in the cache; False for a cache that cannot be read, of which a build says why."""
    return _is_built(cached_folder())


def _is_built(folder: Path) -> bool:
    return os.path.exists(folder / MANIFEST_FILE)  # noqa: PTH110 - Path.exists raises where a folder cannot be read


def cached_folder() -> Path:
    """Returns the place of Silero VAD in the cache.

    Everything that an artifact depends on has its own place: computers may share a cache, and versions follow each
    other.
    """
    versions = (package_version(), str(MANIFEST_VERSION), MAX_VERSION, platform.machine(), *sorted(machine_features()))
    key = sha256(" ".join(versions).encode() + (shipped_folder("specs") / SPEC).read_bytes()).hexdigest()[:16]
    return user_cache() / f"{Path(SPEC).stem}-{key}"


def _build(folder: Path, progress: OnProgress, instead: str) -> None:
    """Runs `max-whisper build`, and reports its steps.

    Two processes may build at the same time: each puts a whole folder in place.
    """
    try:
        process = subprocess.Popen(
            module_command("max_whisper", "build", "--spec", SPEC, "--out", str(folder), "--force"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except OSError as e:
        raise MaxWhisperError(f"the voice detector could not be compiled: {e}") from e
    said = ""
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
    if process.returncode == 0:
        return
    why = said.removeprefix("error: ") or f"the build ended with {process.returncode}"
    if process.returncode != 2:
        raise MaxWhisperError(
            f"the voice detector could not be compiled: {why}; take one that was compiled elsewhere, or do without it"
        )
    raise OptionError(
        f"the voice detector could not be compiled to {{folder}}: {{why}} (or {instead})",
        folder=folder,
        why=why.replace("choose another place with --out", "remove it, or set XDG_CACHE_HOME"),
    )
