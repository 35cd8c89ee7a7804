"""Writes files for players beside the rows: OUT/subtitles/ has the folders of the archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from max_whisper.batch.inputs.source import Source
from max_whisper.batch.rows import Row, result_of
from max_whisper.errors import UserError
from max_whisper.files import is_regular
from max_whisper.messages import printable, quote, suggestion
from max_whisper.runtime.output.files import write_error
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.writers import known_formats, write

ALREADY = "json"
"""The format that has more than rows, of which the files are written."""


def subtitle_formats() -> list[str]:
    """Returns the names of the formats of files."""
    return [name for name in known_formats() if name != ALREADY]


class Subtitles:
    """The files of the recordings of a run."""

    def __init__(self, folder: Path, formats: Sequence[str], options: SubtitleOptions) -> None:
        """Takes the folder, which need not exist, and the formats. Raises UserError for an unknown format."""
        known = subtitle_formats()
        for format in formats:
            if format not in known:
                raise UserError(
                    f"subtitles: expected one of {', '.join(known)}, got {quote(format)}{suggestion(format, known)}"
                )
        self._folder, self._formats, self._options = folder, [*dict.fromkeys(formats)], options
        self._stems: dict[str, str] = {}  # the path of the files below the folder, without suffix, by place
        self._taken: dict[str, str] = {}  # and the place that has it

    def take(self, sources: Iterable[Source]) -> list[UserError]:
        """Chooses the names of the files of recordings.

        They are those of the recordings with another suffix; where two would have the same, with both suffixes. Returns
        an error for each recording whose names are still those of another: it has no files.
        """
        if not self._formats:
            return []
        new = [source for source in sources if source.place not in self._stems]
        short = [str(PurePosixPath(source.relative).with_suffix("")) for source in new]
        others = Counter(short) + Counter({source.relative for source in new if PurePosixPath(source.relative).suffix})
        clashes: list[UserError] = []
        for source, stem in zip(new, short, strict=True):
            chosen = stem if others[stem] == 1 and stem not in self._taken else source.relative
            if chosen in self._taken:
                clashes.append(self._clash(source, chosen))
            else:
                self._taken[chosen] = source.place
                self._stems[source.place] = chosen
        return clashes

    def is_wanted(self, source: Source) -> bool:
        """Returns whether a recording has files."""
        return source.place in self._stems

    def missing(self, source: Source) -> bool:
        """Returns whether a file of a recording is not there."""
        stem = self._stems.get(source.place)
        return stem is not None and not all(is_regular(self._path(stem, format)) for format in self._formats)

    def write(self, source: Source, row: Row) -> None:
        """Writes the files of a recording, from its row. Raises MaxWhisperError where one cannot be written."""
        stem = self._stems.get(source.place)
        if stem is None or row["error"] is not None:
            return
        result = result_of(row)
        for format in self._formats:
            path = self._path(stem, format)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(path, error) from error
            write(result, format, path, self._options)

    def _clash(self, source: Source, stem: str) -> UserError:
        return UserError(
            f"{printable(source.place, 300)} and {printable(self._taken[stem], 300)} would have the same file "
            f"{self._path(stem, self._formats[0])}: give a folder that both are in, or no --subtitles"
        )

    def _path(self, stem: str, format: str) -> Path:
        return self._folder / f"{stem}.{format}"
