"""A transcription -> txt, srt, vtt, tsv or json, as openai/whisper writes them (whisper/utils.py).

There are two differences. What is shown with times does not outlast the recording, as the last window's text may. And
texts are made to fit their format where the reference breaks it: `&` and `<` in vtt, line breaks in tsv and in cues.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, TextIO

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.output.subtitles import PLAIN, Cue, ShownSegment, SubtitleOptions, cues


class Segment(ShownSegment, Protocol):
    """A piece of a transcription, with all that is written of it; times in seconds."""

    @property
    def seek(self) -> int: ...
    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def temperature(self) -> float: ...
    @property
    def avg_logprob(self) -> float: ...
    @property
    def compression_ratio(self) -> float: ...
    @property
    def no_speech_prob(self) -> float: ...


class Result(Protocol):
    """A transcription; language is a code such as "en".

    Where it has a `duration`, the seconds of the recording, nothing is shown for longer.
    """

    @property
    def text(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def segments(self) -> Sequence[Segment]: ...


def format_timestamp(seconds: float, *, hours: bool = False, decimal_marker: str = ".") -> str:
    """Seconds as [hh:]mm:ss.mmm; the hours are left out while they are zero, unless asked for."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hour, minutes = divmod(minutes, 60)
    front = f"{hour:02d}:" if hours or hour else ""
    return f"{front}{minutes:02d}:{milliseconds // 1000:02d}{decimal_marker}{milliseconds % 1000:03d}"


def render(result: Result, format: str, subtitles: SubtitleOptions = PLAIN) -> str:
    """The text of a file in one of FORMATS; raises UserError for another format.

    subtitles: how srt and vtt are cut, where there are words.
    """
    if format not in FORMATS:
        near = difflib.get_close_matches(format.lower(), FORMATS, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UserError(f"unknown output format '{format}': expected one of {', '.join(FORMATS)}{hint}")
    return _RENDERERS[format](result, subtitles)


def write(
    result: Result,
    format: str,
    destination: str | os.PathLike[str] | TextIO,
    subtitles: SubtitleOptions = PLAIN,
) -> None:
    """Write a transcription in one of FORMATS.

    subtitles: how srt and vtt are cut, where there are words.
    destination: a text stream, which is flushed but not closed; or a path in a folder that exists. A file is written
        beside its place and renamed into it, so that there is never half of one, and an older one stays until then.
    Raises UserError for an unknown format and for a path that cannot be written, MaxWhisperError when there is no
    space left; a BrokenPipeError of a stream is passed on, because the reader has simply seen enough.
    """
    text = render(result, format, subtitles)
    if not isinstance(destination, str | os.PathLike):
        try:
            destination.write(text)
            destination.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise _write_error(getattr(destination, "name", "the output"), e) from e
        return
    write_file(Path(destination), text)


def write_file(path: Path, text: str) -> None:
    """Writes a text file as a whole, in UTF-8; see `write` for how, and for the errors."""
    try:
        if path.is_dir():
            raise UserError(
                f"{path} is a folder, expected the name of a file to write: remove it, or choose another name"
            )
        if not path.parent.is_dir():
            raise UserError(
                f"there is no folder {path.parent} to write {path.name} into: make it, or choose another one"
            )
        if path.exists() and not path.is_file():  # a device or a pipe, which must not be replaced by a file
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path, text)
    except OSError as e:
        raise _write_error(path, e) from e


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".max-whisper-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _write_error(name: object, error: OSError) -> MaxWhisperError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MaxWhisperError(f"{name} cannot be written, there is no space left ({error.strerror}): free some")
    return UserError(f"{name} cannot be written ({error.strerror or error}): choose another place, or its permissions")


def text_of(segments: Iterable[ShownSegment]) -> str:
    """Returns the text of segments as a txt file has it, a line for each."""
    return "".join(f"{segment.text.strip()}\n" for segment in segments)


def _txt(result: Result, subtitles: SubtitleOptions) -> str:
    return text_of(result.segments)


def _srt(result: Result, subtitles: SubtitleOptions) -> str:
    shown = enumerate(cues(result.segments, subtitles), start=1)
    return "".join(f"{i}\n{_cue(result, cue, True, ',')}" for i, cue in shown)


def _vtt(result: Result, subtitles: SubtitleOptions) -> str:
    shown = cues(result.segments, subtitles, _vtt_text)
    return "WEBVTT\n\n" + "".join(_cue(result, cue, False, ".") for cue in shown)


def _vtt_text(text: str) -> str:
    """`&` begins a character's name and `<` a tag; `>` is text where nothing has begun."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _cue(result: Result, cue: Cue, hours: bool, decimal_marker: str) -> str:
    times = _within(result, cue[0], cue[1])
    start, end = (format_timestamp(time, hours=hours, decimal_marker=decimal_marker) for time in times)
    return f"{start} --> {end}\n{cue[2]}\n\n"


def _tsv(result: Result, subtitles: SubtitleOptions) -> str:
    rows = []
    for segment in result.segments:
        start, end = _within(result, segment.start, segment.end)
        text = " ".join(segment.text.strip().splitlines()).replace("\t", " ")
        rows.append(f"{round(1000 * start)}\t{round(1000 * end)}\t{text}\n")
    return "start\tend\ttext\n" + "".join(rows)


def _within(result: Result, start: float, end: float) -> tuple[float, float]:
    """Seconds from and to, no later than the end of the recording; what begins behind it is shown at its very end."""
    duration: float = getattr(result, "duration", math.inf)
    if end <= duration:
        return start, end
    last = math.floor(duration * 1000) / 1000  # what is written has milliseconds, and is rounded
    return min(start, max(last - 0.001, 0.0)), last


def _json(result: Result, subtitles: SubtitleOptions) -> str:
    segments = [
        {
            "id": i,
            "seek": s.seek,
            "start": float(s.start),
            "end": float(s.end),
            "text": s.text,
            "tokens": [int(t) for t in s.tokens],
            "temperature": float(s.temperature),
            "avg_logprob": float(s.avg_logprob),
            "compression_ratio": float(s.compression_ratio),
            "no_speech_prob": float(s.no_speech_prob),
            **({} if s.words is None else {"words": [asdict(word) for word in s.words]}),
        }
        for i, s in enumerate(result.segments)
    ]
    return json.dumps({"text": result.text, "segments": segments, "language": result.language})


_RENDERERS: dict[str, Callable[[Result, SubtitleOptions], str]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
    "json": _json,
}
FORMATS = tuple(_RENDERERS)
