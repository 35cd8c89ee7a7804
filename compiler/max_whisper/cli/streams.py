"""Writes results to standard output, and all messages to standard error.

Results are UTF-8 whatever the locale says, as they are in files. Nothing is buffered, so that nothing is lost and
nothing fails when the interpreter ends. Text that cannot be written to standard output is an `OutputError`. Messages
that cannot be written to standard error are dropped, because the transcribed text is worth more than they are.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import select
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.messages import printable

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Matches the control characters that a terminal would obey: all except tab and newline."""


class OutputError(MaxWhisperError):
    """A result cannot be written to standard output."""


class ReaderGone(OutputError):
    """The reader of standard output has ended, as in `max-whisper ... | head -1`; no message is shown then."""


class Stream(io.TextIOBase):
    """A standard stream as it was when the command began; it replaces `sys.stdout` or `sys.stderr`.

    Attributes:
        name: The name of the stream in messages.
        lenient: Whether text that cannot be written is dropped, instead of an OutputError.
        failed: Whether some text was not written.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, name: str, text: TextIO | None, *, lenient: bool = False) -> None:
        """Takes the stream that Python opened, or None where it was closed."""
        self.name = name
        self.lenient = lenient
        self.failed = False
        buffer = getattr(text, "buffer", None)
        self._raw = getattr(buffer, "raw", buffer)

    def writable(self) -> bool:
        """Returns True, as every stream that can be written says."""
        return True

    def isatty(self) -> bool:
        """Returns whether the stream is a terminal."""
        return self._raw is not None and bool(self._raw.isatty())

    def fileno(self) -> int:
        """Returns the number of its file descriptor. Raises UnsupportedOperation where the stream was closed."""
        if self._raw is None:
            raise io.UnsupportedOperation("fileno")
        return int(self._raw.fileno())

    def write(self, text: str) -> int:
        """Writes all of a text. Raises OutputError where that fails, unless the stream is lenient."""
        try:
            self._write(text.encode(self.encoding, self.errors))
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
            self.failed = True
            if not self.lenient:
                raise self._error(error) from error
        return len(text)

    def _write(self, content: bytes) -> None:
        if self._raw is None:
            raise OSError(errno.EBADF, "it is closed")
        rest = memoryview(content)
        while rest:
            written = self._raw.write(rest)
            if written is None:  # another program made it non-blocking, and its reader is slow
                select.select([], [self._raw], [])
            else:
                rest = rest[written:]

    def check(self) -> None:
        """Raises OutputError where nothing can be written, as far as that is known before the work begins."""
        if self._raw is None:
            raise self._error(OSError(errno.EBADF, "it is closed"))
        try:
            descriptor = self._raw.fileno()
        except OSError:  # a buffer in memory
            return
        if not _open_for_writing(descriptor):
            raise self._error(OSError(errno.EBADF, "it is open for reading only"))
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            raise self._error(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def _error(self, error: OSError | ValueError) -> OutputError:
        if isinstance(error, BrokenPipeError):
            return ReaderGone(f"{self.name} has no reader any more")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return OutputError(f"{self.name} cannot be written, there is no space left ({error.strerror}): free some")
        reason = getattr(error, "strerror", None) or error
        return OutputError(f"{self.name} cannot be written ({reason}): send it to a file, a pipe or a terminal")


class Bar(Protocol):
    """The methods of rich's Progress that commands use."""

    def add_task(self, description: str, *, total: float | None = None, **fields: Any) -> Any:
        """Adds a line to the bar, and returns its id."""

    def update(self, task_id: Any, **changes: Any) -> None:
        """Changes a line."""

    def remove_task(self, task_id: Any) -> None:
        """Removes a line."""


class NoBar:
    """A progress bar that is not shown, because standard error is no terminal."""

    def add_task(self, description: str, *, total: float | None = None, **fields: Any) -> Any:
        """Does nothing."""

    def update(self, task_id: Any, **changes: Any) -> None:
        """Does nothing."""

    def remove_task(self, task_id: Any) -> None:
        """Does nothing."""


class Streams:
    """Writes the results and the messages of a command; `opened` makes it."""

    def __init__(self, stdout: Stream, stderr: Stream) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self._bar: Progress | None = None  # while it is shown
        self._hidden: Callable[[], AbstractContextManager[None]] | None = None  # while something else is drawn

    def write(self, text: str) -> None:
        """Writes all of a result to standard output. Raises OutputError where that fails.

        Control characters are escaped where it is a terminal; a file or a pipe gets the text as it is.
        """
        if not self.stdout.isatty():
            self.stdout.write(text)
            return
        with self._without_bar():
            self.stdout.write(harmless(text))

    def say(self, message: object) -> None:
        """Prints a line on standard error, with everything escaped that is not printable."""
        self._print(printable(message))

    def show(self, text: str) -> None:
        """Prints a line of transcribed text on standard error, in which only control characters are escaped."""
        self._print(harmless(text))

    def _print(self, line: str) -> None:
        if self._hidden is not None:
            with self._hidden():
                self.stderr.write(f"{line}\n")
        elif self._bar is None:
            self.stderr.write(f"{line}\n")
        else:
            self._bar.console.print(line, soft_wrap=True)  # the terminal wraps it, so that it is copied as one line

    def warn(self, message: object) -> None:
        """Prints a warning on standard error."""
        self.say(f"warning: {message}")

    @contextlib.contextmanager
    def progress(self, columns: Callable[[], Sequence[ProgressColumn]]) -> Iterator[Bar]:
        """Shows a progress bar on standard error, if that is a terminal; what is said meanwhile appears above it.

        Args:
            columns: Returns the columns of a line of the bar. It is a function because rich takes 30 ms to import.
        """
        if not self.stderr.isatty():
            yield NoBar()
            return
        from rich.console import Console
        from rich.progress import Progress

        console = Console(file=cast(TextIO, self.stderr), markup=False, highlight=False, emoji=False)
        # By default rich replaces sys.stdout and sys.stderr by streams of its own.
        bar = Progress(*columns(), console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        with bar:
            self._bar = bar
            try:
                yield bar
            finally:
                self._bar = None

    @contextlib.contextmanager
    def above(self, hidden: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Lets a block draw on the terminal. hidden: hides the drawing while a line is said, which appears above it."""
        self._hidden = hidden
        try:
            yield
        finally:
            self._hidden = None

    @contextlib.contextmanager
    def _without_bar(self) -> Iterator[None]:
        """Hides the bar for the time of a block: both streams may be the same terminal."""
        if self._bar is None:
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


class _Log(logging.Handler):
    """Prints the warnings in the log of this package, or of any other."""

    def __init__(self, streams: Streams) -> None:
        super().__init__(logging.WARNING)
        self._streams = streams

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record of the log as a warning."""
        self._streams.warn(record.getMessage())


@contextlib.contextmanager
def opened() -> Iterator[Streams]:
    """Takes over both streams, the log and Python's warnings for the time of a block."""
    _occupy()
    before = sys.stdout, sys.stderr, warnings.showwarning
    stdout = Stream("standard output", sys.stdout)
    stderr = Stream("standard error", sys.stderr, lenient=True)
    streams = Streams(stdout, stderr)

    def showwarning(message: Warning | str, *where: Any, **also: Any) -> None:
        streams.warn(message)

    handler = _Log(streams)
    logging.getLogger().addHandler(handler)
    sys.stdout, sys.stderr, warnings.showwarning = stdout, stderr, showwarning
    try:
        yield streams
    finally:
        sys.stdout, sys.stderr, warnings.showwarning = before
        logging.getLogger().removeHandler(handler)


def check_input() -> None:
    """Raises UserError where standard input cannot hold a recording."""
    if sys.stdin is None:
        raise UserError("standard input is closed, expected a recording: pipe one in, or give a file instead of -")
    if sys.stdin.isatty():
        raise UserError("standard input is a terminal, expected a recording: pipe one in, or give a file instead of -")


def harmless(text: str) -> str:
    """Returns text with its control characters escaped, except tabs and newlines."""
    return OBEYED.sub(lambda match: repr(match[0])[1:-1], text)


def _occupy() -> None:
    """Opens /dev/null for each of the three standard descriptors that is closed.

    Otherwise the next file that is opened would get its number, and messages might be written into a model's file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _open_for_writing(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
