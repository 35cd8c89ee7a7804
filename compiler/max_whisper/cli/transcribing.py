"""Recordings in, results out, one after the other or as many at once as the artifact has rows, with a progress bar."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from max_whisper.cli.interrupts import Interrupted, Interrupts
from max_whisper.cli.outputs import Texts
from max_whisper.cli.streams import Bar, OutputError, ReaderGone, Streams
from max_whisper.errors import MaxWhisperError
from max_whisper.messages import printable
from max_whisper.runtime.output.times import format_timestamp

LONGEST_NAME = 40
"""Characters of a recording's name beside its progress bar."""

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.decoding.tokenizer import Tokenizer
    from max_whisper.runtime.model import Model
    from max_whisper.runtime.results import Window
    from max_whisper.runtime.transcription.options import TranscribeOptions
    from max_whisper.runtime.transcription.scheduler import Steps
    from max_whisper.runtime.transcription.transcriber import Transcriber


@dataclass(frozen=True)
class Show:
    """What is seen of the work, on stderr. verbose: segments as they come. explain: what was decided of each window."""

    streams: Streams
    tokenizer: Tokenizer
    verbose: bool
    explain: bool

    def progress(self) -> AbstractContextManager[Bar]:
        return self.streams.progress(_columns)

    def window(self, name: str, window: Window) -> None:
        """name: of the recording, where there are several; else empty."""
        front = f"{printable(name)}: " if name else ""
        if self.explain:
            for line in explanation(window, self.tokenizer):
                self.streams.say(front + line)
        if self.verbose:
            for segment in window.segments:
                times = " --> ".join(format_timestamp(t) for t in (segment.start, segment.end))
                self.streams.show(f"{front}[{times}] {segment.text}")


def _columns() -> Sequence[ProgressColumn]:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s of audio, {task.fields[speed]:.1f} x real time"),
        TimeElapsedColumn(),
    )


def transcribe_files(
    model: Model,
    names: Sequence[str],
    options: tuple[TranscribeOptions, DecodingOptions],
    show: Show,
    texts: Texts,
    interrupts: Interrupts,
) -> list[MaxWhisperError]:
    """Transcribes recordings, as many at once as the artifact has rows; returns why some were not, which is said, too.

    Texts are written in order; after an interrupt, or a failure in the middle of a recording, what was recognized until
    then. Where standard output cannot be written, the others are not begun: nobody would get their text.
    """
    begun: dict[int, Transcriber] = {}
    failures: dict[int, MaxWhisperError] = {}
    unfinished = deque(range(len(names)))
    ended: set[int] = set()

    def finish_next() -> None:
        number = unfinished.popleft()
        transcriber = begun.pop(number, None)
        if transcriber is not None and (transcriber.windows or number not in failures):
            complete = number in ended and number not in failures
            if not complete:
                heard = transcriber.windows[-1].end if transcriber.windows else 0
                show.streams.warn(
                    f"the text of {names[number]} is incomplete: {heard:.0f} of {transcriber.seconds:.0f} s were heard"
                )
            try:
                with interrupts.held():
                    texts.finish(number, transcriber.result(), complete)
            except OutputError:
                raise
            except MaxWhisperError as error:
                failures.setdefault(number, error)
        if number in failures and len(names) > 1:
            show.streams.say(f"error: {failures[number]}")

    with show.progress() as bar:
        tasks = {}
        started = time.monotonic()

        def begin(number: int) -> Transcriber:
            """Reads the whole recording, which takes a minute for one of ten hours."""
            name = printable(Path(names[number]).name, LONGEST_NAME)
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
                    done = begun[number].progress(window).done
                    bar.update(tasks[number], completed=done, speed=done / (time.monotonic() - started))
                    show.window(names[number] if len(names) > 1 else "", window)
                while unfinished and unfinished[0] in ended:
                    finish_next()
                if unfinished and (first := begun.get(unfinished[0])) is not None:
                    with interrupts.held():
                        texts.follow(unfinished[0], first.segments)
        except ReaderGone:  # it has seen enough
            raise
        except OutputError:
            for number, transcriber in begun.items():
                texts.show(number, transcriber.segments)
            raise
        except (Interrupted, Exception) as reason:
            for number in [number for number, transcriber in begun.items() if not transcriber.windows]:
                del begun[number]  # nothing was recognized, and a file of an earlier run may be there
            remaining = {**begun}
            try:
                while unfinished:
                    finish_next()
            except OutputError:  # Ctrl-C ends the reader of a pipe, too
                for number, transcriber in remaining.items():
                    texts.show(number, transcriber.segments)
                raise reason from None
            raise
    return [failures[number] for number in sorted(failures)]


def _windows(
    model: Model, count: int, begin: Callable[[int], Transcriber], failures: dict[int, MaxWhisperError]
) -> Iterator[tuple[int, Window | None]]:
    """The windows of each of some recordings as they come, and None after the last; notes what failed."""
    from max_whisper.runtime.transcription.scheduler import together

    def steps(number: int) -> Steps[Window]:
        try:
            yield from begin(number).steps()
        except MaxWhisperError as error:
            failures[number] = error

    if count > 1:
        yield from together(model, [steps(number) for number in range(count)])
    else:
        try:
            yield from ((0, window) for window in begin(0))
        except MaxWhisperError as error:
            failures[0] = error
        yield 0, None


def explanation(window: Window, tokenizer: Tokenizer) -> list[str]:
    """What was decided about a window, in one line; and in one for each rule, which tokens it kept from being taken."""
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
    return ["; ".join(parts), *(f"    {line}" for line in summary(window.overrides, tokenizer))]
