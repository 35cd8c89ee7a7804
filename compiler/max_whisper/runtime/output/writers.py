r"""Writes transcriptions, and keeps the registry of the formats they can be written in.

txt, srt, vtt, tsv and json are as openai/whisper writes them (whisper/utils.py), with two differences. What is shown
with times does not outlast the recording, as the text of a last window may. And text is made to fit its format where
the reference breaks it: `&` and `<` in vtt, line breaks in tsv and in subtitles.

A new format is one file in `formats/` with one function (docs/adding-a-writer.md):

    @register("md")
    def md(result: TranscriptionResult, subtitles: SubtitleOptions) -> str:
        return "".join(f"- {segment.text.strip()}\n" for segment in result.segments)

`render`, `write` and `max-whisper transcribe --output-format` know it from then on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeAlias

from max_whisper.errors import UserError
from max_whisper.messages import nearest, quote
from max_whisper.registry import import_modules
from max_whisper.runtime.output.files import write_error, write_file
from max_whisper.runtime.output.options import PLAIN, SubtitleOptions

if TYPE_CHECKING:
    from max_whisper.runtime.results import TranscriptionResult

Writer: TypeAlias = "Callable[[TranscriptionResult, SubtitleOptions], str]"
"""Returns the content of a file; the options are for formats that show subtitles."""

_writers: dict[str, Writer] = {}


def register(name: str) -> Callable[[Writer], Writer]:
    """Returns a decorator that registers a function as the writer of a format.

    Args:
        name: The name of the format, which is the ending of its files, too.

    Raises:
        ValueError: Another function writes this format.
    """

    def add(writer: Writer) -> Writer:
        if name in _writers:
            raise ValueError(f"two writers of the format {name!r}: {_writers[name]} and {writer}")
        _writers[name] = writer
        return writer

    return add


def known_formats() -> Mapping[str, Writer]:
    """Returns the writers of all formats by name, in the order of their names."""
    import_modules("max_whisper.runtime.output.formats")
    return dict(sorted(_writers.items()))


def render(result: TranscriptionResult, format: str, subtitles: SubtitleOptions = PLAIN) -> str:
    """Returns a transcription as the text of a file.

    Args:
        result: What `Model.transcribe` returned.
        format: "txt", "srt", "vtt", "tsv" or "json", or another format that was registered.
        subtitles: How srt and vtt are cut and shown, where the result has the times of words.

    Raises:
        UserError: There is no such format.
    """
    known = known_formats()
    if format not in known:
        match = nearest(format, known)
        hint = f"; did you mean {quote(match)}?" if match else ""
        raise UserError(f"unknown output format {quote(format)}: expected one of {', '.join(known)}{hint}")
    return known[format](result, subtitles)


def write(
    result: TranscriptionResult,
    format: str,
    destination: str | os.PathLike[str] | TextIO,
    subtitles: SubtitleOptions = PLAIN,
) -> None:
    """Writes a transcription to a file or a stream.

    Args:
        result: What `Model.transcribe` returned.
        format: "txt", "srt", "vtt", "tsv" or "json", or another format that was registered.
        destination: A path in a folder that exists, or a text stream. A file is written as a whole: an older one stays
            until the new one takes its place. A stream is flushed, and not closed.
        subtitles: How srt and vtt are cut and shown, where the result has the times of words.

    Raises:
        UserError: There is no such format, or the path cannot be written.
        MaxWhisperError: There is no space left.
        BrokenPipeError: The reader of the stream has ended.
    """
    text = render(result, format, subtitles)
    if isinstance(destination, str | os.PathLike):
        write_file(Path(destination), text)
        return
    try:
        destination.write(text)
        destination.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        raise write_error(getattr(destination, "name", "the output"), e) from e
