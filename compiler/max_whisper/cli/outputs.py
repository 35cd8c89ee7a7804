"""Where the text of each recording goes, checked before the work begins, and how it gets there after it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from max_whisper.cli.streams import OutputError, Streams
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.output.subtitles import ShownSegment, SubtitleOptions
from max_whisper.runtime.output.writers import Result, render, text_of, write

Output = dict[str, Path | None]  # format -> where the text of a recording goes; None is stdout
BLOCK = 4096  # bytes that a disk which is not full has room for


def output_files(audio: tuple[str, ...], formats: Sequence[str], folder: Path | None, model: str) -> list[Output]:
    """Where each recording's text goes. model: the folder or spec that must not be overwritten, nor a recording."""
    if folder is None:
        if len(formats) > 1:
            raise UserError("--output-format all writes several files: give a folder for them with --output-dir")
        return [{format: None for format in formats}] * len(audio)
    stems = ["stdin" if name == "-" else Path(name).stem for name in audio]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        file = folder / f"{twice}.{formats[0]}"
        raise UserError(f"two of the recordings would be written to {file}: give them other names or other folders")
    files = [{format: folder / f"{stem}.{format}" for format in formats} for stem in stems]
    spare((path for output in files for path in output.values()), [*(name for name in audio if name != "-"), model])
    return [{**output} for output in files]


def spare(files: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Raises UserError where a file that would be written is one that is read: an input, or in a folder that is one."""
    read = set()
    for name in inputs:
        path = Path(name)
        try:
            read |= {_identity(file) for file in (path.iterdir() if path.is_dir() else [path])}
        except (OSError, ValueError):  # whoever opens it says why it cannot be read
            continue
    for file in files:
        try:
            own = _identity(file)
        except (OSError, ValueError):
            continue
        if own in read:
            raise UserError(f"{file} would be overwritten, which is what is read: choose another folder for the output")


def _identity(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_dev, stat.st_ino


def make_folder(folder: Path) -> None:
    """For the output, with room for it; made before the work begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(bytes(BLOCK))
    except FileExistsError as e:
        raise UserError(f"--output-dir {folder}: it is a file; give a folder that can be written to") from e
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MaxWhisperError(f"--output-dir {folder}: there is no space left ({e.strerror}): free some") from e
        raise UserError(f"--output-dir {folder}: {e.strerror}; give a folder that can be written to") from e


def check_files(files: Iterable[Path | None]) -> None:
    """Raises UserError for names in folders that exist under which no file can be written."""
    for file in files:
        if file is None:
            continue
        try:
            file.lstat()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as e:
            reason = getattr(e, "strerror", None) or e
            raise UserError(f"{file} cannot be written ({reason}): give the recording another name") from e
        if file.is_symlink() and not file.exists():
            raise UserError(f"{file} is a link that leads to nothing: remove it, or choose another folder")
        if file.is_fifo():  # writing to it would wait for a reader, without end
            raise UserError(f"{file} is a pipe, expected the name of a file to write: remove it, or choose another")
        if file.is_dir():
            raise UserError(f"{file} is a folder, expected the name of a file to write: remove it, or choose another")
        if not file.is_file() and not os.access(file, os.W_OK):  # a device or a pipe, which is written and not replaced
            raise UserError(f"{file} cannot be written (Permission denied): choose another folder")


class Texts:
    """Writes the results of a command, each in some formats, and plain text as soon as it is recognized."""

    def __init__(self, outputs: Sequence[Output], subtitles: SubtitleOptions, streams: Streams) -> None:
        """outputs: for each recording."""
        self._outputs = outputs
        self._subtitles = subtitles
        self._streams = streams
        self._printed = [0] * len(outputs)  # segments of each recording that are on standard output

    def follow(self, number: int, segments: Sequence[ShownSegment]) -> None:
        """Writes those segments of a recording so far that are new, if its plain text goes to standard output."""
        if self._outputs[number].get("txt", Path()) is None:
            new = segments[self._printed[number] :]
            if new:
                self._streams.write(text_of(new))
                self._printed[number] = len(segments)

    def show(self, number: int, segments: Sequence[ShownSegment]) -> None:
        """Shows a person at a terminal those segments that standard output did not take."""
        if not self._streams.stderr.isatty():
            return
        for line in text_of(segments[self._printed[number] :]).splitlines():
            self._streams.show(line)

    def finish(self, number: int, result: Result, complete: bool) -> None:
        """Writes one result in each format; names the files on standard error.

        complete: whether it is of the whole recording. If not, an older file is not replaced by it.
        A text that cannot be written to its file goes to standard output, so that it is not lost: MaxWhisperError says
        so.
        """
        self.follow(number, result.segments)
        failures: dict[str, MaxWhisperError] = {}
        for format, file in self._outputs[number].items():
            if file is None:
                if format != "txt":
                    self._streams.write(render(result, format, self._subtitles))
                continue
            place = file if complete or not file.exists() else file.with_name(f"{file.stem}.partial{file.suffix}")
            try:
                _write(result, format, place, self._subtitles)
            except MaxWhisperError as error:
                failures[format] = error
            else:
                self._streams.say(place)
        if failures:
            kept = ["json"] if "json" in failures else [*failures]  # json has all that is in the others
            text = "".join(render(result, format, self._subtitles) for format in kept)
            raise _rescued(next(iter(failures.values())), text, [*failures], self._streams)


def _write(result: Result, format: str, file: Path, subtitles: SubtitleOptions) -> None:
    """Makes the folder again, should it have been removed meanwhile."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise MaxWhisperError(f"{file} cannot be written ({e.strerror})") from e
    write(result, format, file, subtitles)


def _rescued(error: MaxWhisperError, text: str, formats: Sequence[str], streams: Streams) -> MaxWhisperError:
    """Writes to standard output what could not be written to files of some formats; returns what to say of it."""
    missing = f" ({', '.join(formats)} were not written)" if len(formats) > 1 else ""
    try:
        streams.write(text)
    except OutputError:
        return MaxWhisperError(f"{error}{missing}; its text is lost, as standard output cannot be written either")
    return MaxWhisperError(f"{error}{missing}; its text went to standard output")
