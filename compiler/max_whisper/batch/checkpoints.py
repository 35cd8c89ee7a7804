"""Keeps the windows of recordings that are not finished, so that a long one goes on from its last window.

Each such recording has a file, named after its key, of the windows as its worker sent them. It is removed when the row
of the recording is in the journal.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from max_whisper.batch.frames import FrameFile, read_frames
from max_whisper.runtime.output.files import write_error
from max_whisper.runtime.results import Window

_SUFFIX = ".windows"


def read_windows(path: Path) -> list[Window]:
    """Returns the windows in the file of a recording. Raises OSError."""
    windows, _ = read_frames(path, Window)
    return windows


class Checkpoints:
    """The windows of the recordings that have begun, by their keys."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder of the files, which exists."""
        self._folder = folder
        self._open: dict[str, FrameFile] = {}

    def keys(self) -> list[str]:
        """Returns the keys of the recordings that have begun, now or in a run before."""
        return [path.stem for path in self._folder.glob(f"*{_SUFFIX}")]  # `Journal` has found that it can be read

    def begin(self, key: str) -> Path | None:
        """Makes ready for the windows of a recording, and returns the file with those that it has; None for none.

        Raises MaxWhisperError where the file cannot be read or written.
        """
        path = self._path(key)
        self.leave(key)
        try:
            windows, size = read_frames(path, Window)
            if not windows:
                path.unlink(missing_ok=True)
                return None
            self._open[key] = FrameFile(path, size)
        except OSError as error:
            raise write_error(path, error) from error
        return path

    def add(self, key: str, window: bytes) -> None:
        """Adds a window, as msgpack, to those of a recording. Raises MaxWhisperError where it cannot be written."""
        try:
            if key not in self._open:  # most recordings have one window, and need no file
                self._open[key] = FrameFile(self._path(key), 0)
            self._open[key].append(window)
        except OSError as error:
            raise write_error(self._path(key), error) from error

    def leave(self, key: str) -> None:
        """Keeps the windows of a recording for another time."""
        if key in self._open:
            self._open.pop(key).close()

    def remove(self, key: str) -> None:
        """Removes the windows of a recording, whose row is written."""
        self.leave(key)
        with contextlib.suppress(OSError):  # the next run removes it
            self._path(key).unlink()

    def close(self) -> None:
        """Closes all files."""
        for key in [*self._open]:
            self.leave(key)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"
