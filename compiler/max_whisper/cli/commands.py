"""How every command ends: with an exit code and, where something went wrong, one sentence."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from max_whisper.cli.interrupts import Interrupted, Interrupts
from max_whisper.cli.streams import ReaderGone, Streams, opened
from max_whisper.errors import MaxWhisperError

TRACEBACK = "MAX_WHISPER_TRACEBACK"
"""The environment variable that shows where an exception came from which we did not expect."""


@dataclass(frozen=True)
class Run:
    """What a command needs of the process that it runs in."""

    streams: Streams
    interrupts: Interrupts


def current() -> Run:
    """Of the command that runs."""
    run = click.get_current_context().find_object(Run)
    assert run is not None
    return run


class Commands(click.Group):
    """Exits with 0 where everything that was asked for arrived, with 2 after a mistake of the user, with 1 after a
    failure, and with 128 and its number after a signal.
    """

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Runs the command line and exits."""
        try:
            with Interrupts() as interrupts, opened() as streams:
                code = self._code(Run(streams, interrupts), args, extra)
        except Interrupted as interrupted:  # while the last words were said
            code = interrupted.exit_code
        sys.exit(code)

    def _code(self, run: Run, args: tuple[Any, ...], extra: dict[str, Any]) -> int:
        """Runs the command line, and says what went wrong; returns the exit code."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False, "obj": run})
            return code if isinstance(code, int) else 0
        except ReaderGone as error:
            return error.exit_code
        except (MaxWhisperError, click.ClickException, Interrupted) as error:
            run.streams.say(f"error: {_sentence(error)}")
            return error.exit_code
        except Exception as error:
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            run.streams.say(f"error: {_unexpected(error)}")
            return 1


def _sentence(error: MaxWhisperError | click.ClickException | Interrupted) -> str:
    if isinstance(error, Interrupted):
        return "stopped by Ctrl-C" if error.signal == signal.SIGINT else f"stopped by {error.signal.name}"
    if isinstance(error, click.ClickException):
        said = " ".join(error.format_message().split()).rstrip(".")
        context = error.ctx if isinstance(error, click.UsageError) else None
        return f"{said}; see {context.command_path} --help" if context else said
    return str(error)


def _unexpected(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, OSError | MemoryError):  # the machine's fault, as far as we can tell
        return f"the system refused something that was needed ({said}); with {TRACEBACK}=1 you see where"
    return (
        f"{said}: this is a bug of max-whisper; please report it with the command and with what {TRACEBACK}=1 adds to "
        "this message"
    )
