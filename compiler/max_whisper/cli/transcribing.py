"""Recordings in, files or stdout out, with a progress bar."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.runtime.subtitles import SubtitleOptions
from max_whisper.runtime.writers import format_timestamp, write

if TYPE_CHECKING:
    from max_whisper.runtime.batching import Steps
    from max_whisper.runtime.model import Model
    from max_whisper.runtime.options import DecodingOptions, TranscribeOptions
    from max_whisper.runtime.tokenizer import Tokenizer
    from max_whisper.runtime.transcription import Transcriber, TranscriptionResult, Window

Output = dict[str, Path | None]  # format -> where the text of a recording goes; None is stdout


def output_files(audio: tuple[str, ...], formats: Sequence[str], folder: Path | None) -> list[Output]:
    """Where each recording's text goes."""
    if folder is None:
        if len(formats) > 1:
            raise UserError("--output-format all writes several files: give a folder for them with --output-dir")
        return [{format: None for format in formats}] * len(audio)
    stems = ["stdin" if name == "-" else Path(name).stem for name in audio]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        file = folder / f"{twice}.{formats[0]}"
        raise UserError(f"two of the recordings would be written to {file}: give them other names or other folders")
    return [{format: folder / f"{stem}.{format}" for format in formats} for stem in stems]


def make_folder(folder: Path) -> None:
    """For the output; made before the work begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"--output-dir {folder}: {e.strerror}; give a folder that can be written to") from e
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output-dir {folder}: permission denied; give a folder that can be written to")


def write_files(result: TranscriptionResult, files: Output, subtitles: SubtitleOptions) -> None:
    """One result in each of some formats; names the files on stderr."""
    for format, file in files.items():
        write(result, format, sys.stdout if file is None else file, subtitles)
        if file is not None:
            click.echo(file, err=True)


@dataclass(frozen=True)
class Show:
    """What is seen of the work, on stderr. verbose: segments as they come. explain: what was decided of each window."""

    console: Console
    tokenizer: Tokenizer
    verbose: bool
    explain: bool

    def progress(self) -> Progress:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} s of audio, {task.fields[speed]:.1f} x real time"),
            TimeElapsedColumn(),
        )
        return Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)

    def window(self, bar: Progress, name: str, window: Window) -> None:
        """name: of the recording, where there are several; else empty."""
        front = f"{name}: " if name else ""
        if self.explain:
            for line in explanation(window, self.tokenizer):
                bar.console.print(front + line, markup=False, soft_wrap=True)
        if self.verbose:
            for segment in window.segments:
                times = " --> ".join(format_timestamp(t) for t in (segment.start, segment.end))
                bar.console.print(f"{front}[{times}] {segment.text}", markup=False, soft_wrap=True)


def transcribe_files(
    model: Model,
    names: Sequence[str],
    options: tuple[TranscribeOptions, DecodingOptions],
    show: Show,
    finish: Callable[[int, TranscriptionResult], None],
) -> list[MaxWhisperError]:
    """Transcribes recordings, as many at once as the artifact has rows; returns why some were not, which is said, too.

    finish: called with the number and the result of each, in order. After Ctrl-C it is called with what there is of
    those that were begun, and click.Abort is raised.
    """
    begun: dict[int, Transcriber] = {}
    failures: dict[int, MaxWhisperError] = {}
    unfinished = deque(range(len(names)))
    ended: set[int] = set()

    def finish_next() -> None:
        number = unfinished.popleft()
        if (transcriber := begun.pop(number, None)) is not None and number not in failures:
            try:
                finish(number, transcriber.result())
            except MaxWhisperError as error:
                failures[number] = error
        if number in failures and len(names) > 1:
            click.echo(f"error: {failures[number]}", err=True)

    with show.progress() as bar:
        tasks = {}
        started = time.monotonic()

        def begin(number: int) -> Transcriber:
            """Reads the whole recording, which takes a minute for one of ten hours."""
            name = Path(names[number]).name
            tasks[number] = bar.add_task(f"reading {name}", total=0, speed=0)
            begun[number] = model.open(names[number], *options)
            bar.update(tasks[number], description=name, total=begun[number].seconds)
            return begun[number]

        try:
            for number, window in _windows(model, len(names), begin, failures):
                if window is None:
                    ended.add(number)
                    bar.remove_task(tasks[number])
                else:
                    speed = window.end / (time.monotonic() - started)
                    bar.update(tasks[number], completed=window.end, speed=speed)
                    show.window(bar, names[number] if len(names) > 1 else "", window)
                while unfinished and unfinished[0] in ended:
                    finish_next()
        except KeyboardInterrupt:
            while unfinished:
                finish_next()
            raise click.Abort() from None
    return [failures[number] for number in sorted(failures)]


def _windows(
    model: Model, count: int, begin: Callable[[int], Transcriber], failures: dict[int, MaxWhisperError]
) -> Iterator[tuple[int, Window | None]]:
    """The windows of each of some recordings as they come, and None after the last; notes what failed."""
    from max_whisper.runtime.batching import together

    def steps(number: int) -> Steps[Window]:
        try:
            yield from begin(number).steps()
        except MaxWhisperError as error:
            failures[number] = error

    if count > 1:
        yield from together(model, [steps(number) for number in range(count)])
    else:
        yield from ((0, window) for window in begin(0))
        yield 0, None


def explanation(window: Window, tokenizer: Tokenizer) -> list[str]:
    """What was decided about a window, in one line; and in one for each rule, which tokens it kept from being taken."""
    from max_whisper.runtime.explanation import summary

    parts = [f"{format_timestamp(window.start)} to {format_timestamp(window.end)}"]
    for attempt in window.attempts:
        parts.append(f"temperature {attempt.temperature:g}: {attempt.rejected or 'taken'}")
    result = window.result
    parts.append(
        f"average log-probability {result.avg_logprob:.2f}, no-speech {result.no_speech_prob:.2f}, "
        f"compression ratio {result.compression_ratio:.2f}"
    )
    parts.append(f"skipped: {window.skipped}" if window.skipped else f"{len(window.segments)} segments")
    if window.overruled:
        parts.append(f"tokens other than the likeliest: {len(window.overruled)} of {len(result.tokens)}")
    return ["; ".join(parts), *(f"    {line}" for line in summary(window.overruled, tokenizer))]
