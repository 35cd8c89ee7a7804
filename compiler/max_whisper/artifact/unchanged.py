"""Detects changes of files that are mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from max_whisper.errors import ArtifactError


class Unchanged:
    """Files that must not change: bytes that are written to a file appear in the memory of all who mapped it.

    The files are held open, so that other files which take over their names do not matter. A change is not detected if
    the time of the last change is set back, too.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        """Opens the files, and remembers their states."""
        self._files: dict[int, tuple[Path, tuple[int, int]]] = {}  # descriptor -> path and state
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._files[descriptor] = path, _state(descriptor)

    def __del__(self) -> None:
        for descriptor in self._files:
            os.close(descriptor)

    def check(self) -> None:
        """Raises ArtifactError where a file was written to since it was opened here."""
        for descriptor, (path, state) in self._files.items():
            if _state(descriptor) != state:
                raise ArtifactError(
                    f"{path} was changed after it was loaded, so the model in memory is broken: load it again, and "
                    "replace artifacts as folders, not their files"
                )


def _state(descriptor: int) -> tuple[int, int]:
    """Returns the size of a file, and the time of the last change of its content in nanoseconds."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns
