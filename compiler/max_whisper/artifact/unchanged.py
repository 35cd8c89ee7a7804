"""Whether files that are mapped into memory are still what they were."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from max_whisper.errors import ArtifactError


class Unchanged:
    """Some files, whatever becomes of their names: other files in their places do not matter here.

    What is written to a file is in the memory of all that have mapped it. Whoever also sets its time back is not seen.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: dict[int, tuple[Path, tuple[int, int]]] = {}  # descriptor -> name, and what it was
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._files[descriptor] = path, _state(descriptor)

    def __del__(self) -> None:
        for descriptor in self._files:
            os.close(descriptor)

    def check(self) -> None:
        """Raises ArtifactError where one was written to since it was opened here."""
        for descriptor, (path, state) in self._files.items():
            if _state(descriptor) != state:
                raise ArtifactError(
                    f"{path} was changed after it was loaded, so that the model is not what it was: load it again, and "
                    "replace artifacts as folders, not their files"
                )


def _state(descriptor: int) -> tuple[int, int]:
    """Size, and time of the last change of the content in nanoseconds."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns
