"""Transcribes the recordings of a command with a progress bar, and writes their texts in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from max_whisper.cli.group import sentence
from max_whisper.cli.interrupts import Interrupted, Interrupts
from max_whisper.cli.outputs import Texts
from max_whisper.cli.streams import Bar, OutputError, ReaderGone, Streams
from max_whisper.errors import MaxWhisperError
from max_whisper.messages import printable
from max_whisper.runtime.output.times import format_timestamp

MAX_NAME_LENGTH = 40
"""The number of characters of a recording's name beside its progress bar."""
MAX_EXAMPLE_LENGTH = 60
"""The number of characters of a text that was probably invented, in the warning of it."""

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

    from max_whisper.runtime.decoding.tokenizer import Tokenizer
    from max_whisper.runtime.results import Segment, Window
    from max_whisper.runtime.transcription.batch import BatchEvent, BatchTranscriber
    from max_whisper.runtime.transcription.transcriber import Transcriber


@dataclass(frozen=True)
class Display:
    """Shows the progress of transcriptions on standard error.

    Attributes:
        streams: The streams of the command.
        tokenizer: The vocabulary of the model.
        verbose: Whether segments are shown as they come.
        explain: Whether the decisions about each window are shown.
    """

    streams: Streams
    tokenizer: Tokenizer
    verbose: bool
    explain: bool

    def progress(self) -> AbstractContextManager[Bar]:
        """Returns a progress bar, shown within its context."""
        return self.streams.progress(_columns)

    def window(self, name: str, window: Window) -> None:
        """Shows a window that is done. name: of its recording, where there are several; else empty."""
        front = f"{printable(name)}: " if name else ""
        if self.explain:
            for line in explanation(window, self.tokenizer):
                self.streams.say(front + line)
        if self.verbose:
            for segment in window.segments:
                self.streams.show(f"{front}[{_times(segment)}] {segment.text}")

    def speech(self, name: str, transcriber: Transcriber) -> None:
        """Says where speech was found, if it was looked for: with `explain` all parts, else only that there is none."""
        if transcriber.speech is None or (transcriber.speech and not self.explain):
            return
        parts = ", ".join(" to ".join(map(format_timestamp, part)) for part in transcriber.speech)
        self.streams.say(f"{printable(name)}: " + (f"speech from {parts}" if parts else "no speech was found"))

    def invented(self, name: str, transcriber: Transcriber) -> None:
        """Warns of the text of a recording that was probably invented, or says how much of it was left out."""
        dropped = [segment for window in transcriber.windows for segment in window.dropped]
        suspect = dropped or [segment for segment in transcriber.segments if segment.warnings]
        if not suspect:
            return
        count = "1 segment" if len(suspect) == 1 else f"{len(suspect)} segments"
        what = "left out as" if dropped else "was" if len(suspect) == 1 else "were"
        advice = "" if dropped else "; --drop-suspect leaves out such text"
        first = suspect[0]
        self.streams.warn(
            f'{printable(name)}: {count} {what} probably invented, for example "{_example(first)}" at '
            f"{format_timestamp(first.start)}, because {first.warnings[0].reason}{advice}"
        )


def _example(segment: Segment) -> str:
    return printable(segment.text.strip(), MAX_EXAMPLE_LENGTH)


def _times(segment: Segment) -> str:
    return " --> ".join(format_timestamp(time) for time in (segment.start, segment.end))


def _columns() -> Sequence[ProgressColumn]:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s of audio, {task.fields[speed]:.1f} x real time"),
        TimeElapsedColumn(),
    )


def transcribe_files(
    names: Sequence[str], batch: BatchTranscriber, display: Display, texts: Texts, interrupts: Interrupts
) -> list[MaxWhisperError]:
    """Transcribes recordings, writes their texts in order, and returns the errors of those that failed.

    After an interrupt, or an error in the middle of a recording, the text until then is written. Where standard output
    cannot be written, no other recording is begun, because nobody would get its text.
    """
    run = _Run(names, display, texts, interrupts)
    with display.progress() as bar:
        tasks: dict[int, TaskID] = {}
        started = time.monotonic()
        try:
            for event in batch:
                number, transcriber = event.index, event.transcriber
                if event.kind == "opening":  # reading takes a minute for a recording of ten hours
                    name = printable(Path(names[number]).name, MAX_NAME_LENGTH)
                    tasks[number] = bar.add_task(f"reading {name}", total=0, speed=0)
                elif event.kind in ("ended", "failed"):
                    bar.remove_task(tasks[number])
                elif transcriber is not None and event.window is None:
                    name = printable(Path(names[number]).name, MAX_NAME_LENGTH)
                    bar.update(tasks[number], description=name, total=transcriber.seconds)
                    display.speech(names[number], transcriber)
                elif transcriber is not None and event.window is not None:
                    done = transcriber.progress(event.window).done
                    bar.update(tasks[number], completed=done, speed=done / (time.monotonic() - started))
                    display.window(names[number] if len(names) > 1 else "", event.window)
                run.take(event)
        except ReaderGone:  # the reader has all that it wanted
            raise
        except OutputError:
            run.show_rest()
            raise
        except (Interrupted, Exception) as reason:
            try:
                run.finish_all()
            except OutputError:  # Ctrl-C ends the reader of a pipe, too
                run.show_rest()
                raise reason from None
            raise
    return [run.failures[number] for number in sorted(run.failures)]


class _Run:
    """The state of the recordings of a command: those that have begun, those that have ended, and the next to write."""

    def __init__(self, names: Sequence[str], display: Display, texts: Texts, interrupts: Interrupts) -> None:
        self._names, self._display, self._texts, self._interrupts = names, display, texts, interrupts
        self._begun: dict[int, Transcriber] = {}
        self._unwritten = deque(range(len(names)))
        self._ended: set[int] = set()
        self.failures: dict[int, MaxWhisperError] = {}

    def take(self, event: BatchEvent) -> None:
        """Takes note of an event, and writes the text that is next in order, as far as it is there."""
        if event.transcriber is not None:
            self._begun[event.index] = event.transcriber
        if event.error is not None:
            self.failures[event.index] = event.error
        if event.kind in ("ended", "failed"):
            self._ended.add(event.index)
        while self._unwritten and self._unwritten[0] in self._ended:
            with self._interrupts.held():  # from when it leaves the deque: after that, `finish_all` does not write it
                self._finish_next()
        if self._unwritten and (first := self._begun.get(self._unwritten[0])) is not None:
            with self._interrupts.held():
                self._texts.follow(self._unwritten[0], first.segments)

    def finish_all(self) -> None:
        """Writes the text so far of all recordings that have begun."""
        with self._interrupts.held():
            while self._unwritten:
                number = self._unwritten[0]
                if (transcriber := self._begun.get(number)) is not None and not transcriber.windows:
                    del self._begun[number]  # nothing was recognized, and a file of an earlier run may be there
                self._finish_next()

    def show_rest(self) -> None:
        """Shows the text that standard output did not take on standard error."""
        for number, transcriber in self._begun.items():
            self._texts.show(number, transcriber.segments)

    def _finish_next(self) -> None:
        """Writes the text of the next recording in order, if there is one, and says what went wrong with it."""
        number = self._unwritten.popleft()  # before it is written: `finish_all` after an error must not write it again
        transcriber = self._begun.get(number)
        if transcriber is not None and (transcriber.windows or number not in self.failures):
            complete = number in self._ended and number not in self.failures
            if not complete:
                heard = transcriber.windows[-1].end if transcriber.windows else 0
                self._display.streams.warn(
                    f"the text of {self._names[number]} is incomplete: {heard:.0f} of {transcriber.seconds:.0f} s were "
                    "heard"
                )
            try:
                self._texts.finish(number, transcriber.result(), complete)
            except OutputError:
                raise
            except MaxWhisperError as error:
                self.failures.setdefault(number, error)
            self._display.invented(self._names[number], transcriber)
        self._begun.pop(number, None)
        if number in self.failures and len(self._names) > 1:
            self._display.streams.say(f"error: {sentence(self.failures[number])}")


def explanation(window: Window, tokenizer: Tokenizer) -> list[str]:
    """Returns lines with the decisions about a window, and the tokens that each rule kept from being chosen."""
    from max_whisper.runtime.decoding.explanation import summary

    parts = [f"{format_timestamp(window.start)} to {format_timestamp(window.end)}"]
    for attempt in window.attempts:
        parts.append(f"temperature {attempt.temperature:g}: {attempt.rejected or 'taken'}")
    result = window.result
    parts.append(
        f"average log-probability {result.avg_logprob:.2f}, no-speech {result.no_speech_prob:.2f}, "
        f"compression ratio {result.compression_ratio:.2f}"
    )
    parts.append(f"skipped: {window.skipped}" if window.skipped else f"{len(window.segments)} segments")
    if window.overrides:
        parts.append(f"tokens other than the likeliest: {len(window.overrides)} of {len(result.tokens)}")
    lines = [
        f"{what}: [{_times(segment)}]{segment.text}: {warning.reason} ({warning.kind})"
        for what, segments in (("warning", window.segments), ("left out", window.dropped))
        for segment in segments
        for warning in segment.warnings
    ]
    return ["; ".join(parts), *(f"    {line}" for line in [*lines, *summary(window.overrides, tokenizer)])]
