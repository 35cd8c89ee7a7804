"""Where the text of each recording goes, checked before the work begins, and how it gets there after it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from max_whisper.cli.streams import OutputError, Streams
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.subtitles import SubtitleOptions
from max_whisper.runtime.writers import Result, render, write

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
        if file.is_dir():
            raise UserError(f"{file} is a folder, expected the name of a file to write: remove it, or choose another")
        if not file.is_file() and not os.access(file, os.W_OK):  # a device or a pipe, which is written and not replaced
            raise UserError(f"{file} cannot be written (Permission denied): choose another folder")


def write_result(result: Result, files: Output, subtitles: SubtitleOptions, streams: Streams) -> None:
    """Writes one result in each of some formats; names the files on standard error.

    A text that cannot be written to its file goes to standard output, so that it is not lost: MaxWhisperError says so.
    """
    failure: MaxWhisperError | None = None
    for format, file in files.items():
        if file is None:
            streams.write(render(result, format, subtitles))
            continue
        try:
            _write(result, format, file, subtitles)
        except MaxWhisperError as error:
            if failure is None:
                failure = _rescued(error, render(result, format, subtitles), streams)
        else:
            streams.say(file)
    if failure is not None:
        raise failure


def _write(result: Result, format: str, file: Path, subtitles: SubtitleOptions) -> None:
    """Makes the folder again, should it have been removed meanwhile."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise MaxWhisperError(f"{file} cannot be written ({e.strerror})") from e
    write(result, format, file, subtitles)


def _rescued(error: MaxWhisperError, text: str, streams: Streams) -> MaxWhisperError:
    try:
        streams.write(text)
    except OutputError:
        return MaxWhisperError(f"{error}; its text is lost, as standard output cannot be written either")
    return MaxWhisperError(f"{error}; its text went to standard output")
