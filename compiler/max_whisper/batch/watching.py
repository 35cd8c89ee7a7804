"""Looks again and again at folders, for recordings that are new and that nobody writes to any more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from max_whisper.batch.inputs.local import in_folder
from max_whisper.batch.inputs.source import Source
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.files import expanded, is_folder
from max_whisper.messages import printable

INTERVAL = 2.0
"""The seconds between two looks."""


class Watch:
    """The recordings of folders, as they come."""

    def __init__(self, inputs: Sequence[str], out: Path) -> None:
        """Takes the folders, and that of the results. Raises UserError for an input that is no folder."""
        for given in inputs:
            if not is_folder(expanded(given)):
                raise UserError(f"--watch: expected folders, {printable(given)} is none; leave out one of them")
        self._folders = [str(expanded(given)) for given in inputs]
        self._out = out
        self._seen: dict[str, str] = {}  # the stamp of the last look, by place
        self._taken: dict[str, str] = {}  # the stamp with which a recording was taken
        self._next = 0.0

    def look(self) -> list[Source]:
        """Returns the recordings that did not change between the last two looks, each once.

        Returns none until it is time for another look. Raises UserError where a folder cannot be read, and
        MaxWhisperError where one cannot be read any more.
        """
        now = time.monotonic()
        if now < self._next:
            return []
        try:
            places = {source.place: source for folder in self._folders for source in in_folder(folder, self._out)}
        except UserError as error:
            if not self._next:
                raise
            raise MaxWhisperError(str(error)) from error  # the run has begun
        found = [*places.values()]  # each once, also where one folder is in another
        still = [
            source
            for source in found
            if source.stamp == self._seen.get(source.place) and source.stamp != self._taken.get(source.place)
        ]
        self._seen = {source.place: source.stamp for source in found}
        self._taken |= {source.place: source.stamp for source in still}
        self._next = time.monotonic() + INTERVAL
        return still
