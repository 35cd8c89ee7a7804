"""Chooses and checks the output of each recording before the work begins, and writes it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from max_whisper.cli.streams import OutputError, Streams
from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.files import expanded, is_folder
from max_whisper.runtime.output.formats.txt import plain_text
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.writers import known_formats, render, write

if TYPE_CHECKING:
    from max_whisper.runtime.results import Segment, TranscriptionResult

Output = dict[str, Path | None]
"""The file for the text of a recording, by format; None is standard output."""
BLOCK = 4096
"""The bytes that are written to find out whether a disk is full."""


def formats_of(name: str) -> list[str]:
    """Returns the formats that `--output-format` names: one, or all of them."""
    return [*known_formats()] if name == "all" else [name]


def output_files(audio: tuple[str, ...], formats: Sequence[str], folder: Path | None, model: str) -> list[Output]:
    """Returns where the text of each recording goes.

    Args:
        audio: The recordings, as they were given; "-" is standard input.
        formats: The formats in which each is written.
        folder: The folder of `--output-dir`, None for standard output.
        model: The folder or spec of `--model`.

    Raises:
        UserError: Two texts would be written to one file, or a recording or the model would be overwritten.
    """
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
    check_inputs_kept(
        (path for output in files for path in output.values()), [*(name for name in audio if name != "-"), model]
    )
    return [{**output} for output in files]


def check_inputs_kept(files: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Raises UserError where a file to write is an input of the command, or is in a folder that is one."""
    read = set()
    for name in inputs:
        path = Path(name)
        try:
            read |= {_identity(file) for file in (path.iterdir() if path.is_dir() else [path])}
        except (OSError, ValueError):  # whoever opens it says why it cannot be read
            continue
    for file in files:
        try:
            identity = _identity(file)
        except (OSError, ValueError):
            continue
        if identity in read:
            raise UserError(
                f"{file} would be overwritten, but it is read by this command: choose another folder for the output"
            )


def _identity(file: Path) -> tuple[int, int]:
    """Returns the numbers of device and file, which are equal for all names of one file."""
    stat = file.stat()
    return stat.st_dev, stat.st_ino


def make_folder(folder: Path) -> None:
    """Makes the folder for the output before the work begins. Raises MaxWhisperError where it cannot be written to."""
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
    """Raises UserError for a name under which no file can be written, in a folder that exists."""
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
        if file.is_fifo():  # writing to it would wait for a reader forever
            raise UserError(f"{file} is a pipe, expected the name of a file to write: remove it, or choose another")
        if file.is_dir():
            raise UserError(f"{file} is a folder, expected the name of a file to write: remove it, or choose another")
        if not file.is_file() and not os.access(file, os.W_OK):  # a device or a pipe, which is written and not replaced
            raise UserError(f"{file} cannot be written (Permission denied): choose another folder")


def checked_report(option: str, file: Path | None, inputs: Iterable[str | Path]) -> Path | None:
    """Returns the file to which a command writes a report at its end; None where it was not asked for one.

    Args:
        option: The option that names the file, for messages.
        file: The file, as it was given.
        inputs: The files and folders that the command reads.

    Raises:
        UserError: The file cannot be written, or is an input.
    """
    if file is None:
        return None
    file = expanded(file)
    if not (is_folder(file.parent) and os.access(file.parent, os.W_OK)):
        raise UserError(
            f"{option} {file}: there is no folder {file.parent} that can be written to; make it, or choose another"
        )
    check_inputs_kept([file], inputs)
    check_files([file])
    return file


class Texts:
    """Writes the results of a command, each in some formats, and plain text as soon as it is recognized."""

    def __init__(self, outputs: Sequence[Output], subtitles: SubtitleOptions, streams: Streams) -> None:
        """Takes the output of each recording, as `output_files` returns it."""
        self._outputs = outputs
        self._subtitles = subtitles
        self._streams = streams
        self._printed = [0] * len(outputs)  # the number of segments of each recording that were written to stdout

    def follow(self, number: int, segments: Sequence[Segment]) -> None:
        """Writes the segments of a recording that are new since the last call, if its plain text goes to stdout."""
        if self._outputs[number].get("txt", Path()) is None:
            new = segments[self._printed[number] :]
            if new:
                self._streams.write(plain_text(new))
                self._printed[number] = len(segments)

    def show(self, number: int, segments: Sequence[Segment]) -> None:
        """Shows the segments that standard output did not take on standard error, if that is a terminal."""
        if not self._streams.stderr.isatty():
            return
        for line in plain_text(segments[self._printed[number] :]).splitlines():
            self._streams.show(line)

    def finish(self, number: int, result: TranscriptionResult, complete: bool) -> None:
        """Writes the result of a recording in each format, and names the files on standard error.

        Args:
            number: Which of the recordings, from 0.
            result: The transcription.
            complete: Whether it is of the whole recording. If not, an older file is not replaced: the name of the new
                one has `.partial` before its ending.

        Raises:
            MaxWhisperError: A file cannot be written. Its text went to standard output instead, so that it is not lost.
        """
        self.follow(number, result.segments)
        failures: dict[str, MaxWhisperError] = {}
        for format, file in self._outputs[number].items():
            if file is None:
                if format != "txt":
                    self._streams.write(render(result, format, self._subtitles))
                continue
            target = file if complete or not file.exists() else file.with_name(f"{file.stem}.partial{file.suffix}")
            try:
                _write(result, format, target, self._subtitles)
            except MaxWhisperError as error:
                failures[format] = error
            else:
                self._streams.say(target)
        if failures:
            rescued = ["json"] if "json" in failures else [*failures]  # json has all that is in the others
            text = "".join(render(result, format, self._subtitles) for format in rescued)
            raise _rescue(next(iter(failures.values())), text, [*failures], self._streams)


def _write(result: TranscriptionResult, format: str, file: Path, subtitles: SubtitleOptions) -> None:
    """Writes a file, in a folder that is made again if it was removed meanwhile."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise MaxWhisperError(f"{file} cannot be written ({e.strerror}): make its folder, or choose another one") from e
    write(result, format, file, subtitles)


def _rescue(error: MaxWhisperError, text: str, formats: Sequence[str], streams: Streams) -> MaxWhisperError:
    """Writes text to standard output that could not be written to files, and returns the error that says so."""
    missing = f" ({', '.join(formats)} were not written)" if len(formats) > 1 else ""
    try:
        streams.write(text)
    except OutputError:
        return MaxWhisperError(f"{error}{missing}; its text is lost, as standard output cannot be written either")
    return MaxWhisperError(f"{error}{missing}; its text went to standard output")
