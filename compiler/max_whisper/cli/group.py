"""Runs the commands, each of which ends with an exit code and, after an error, with a message of one sentence."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.interrupts import Interrupted, Interrupts
from max_whisper.cli.options import flag_of
from max_whisper.cli.streams import ReaderGone, Streams, opened
from max_whisper.errors import MaxWhisperError
from max_whisper.options import OptionError

TRACEBACK = "MAX_WHISPER_TRACEBACK"
"""The environment variable that makes an unexpected exception show where it comes from."""


@dataclass(frozen=True)
class Run:
    """The streams and the interrupts of the process in which a command runs."""

    streams: Streams
    interrupts: Interrupts


def current() -> Run:
    """Returns the streams and interrupts of the command that runs."""
    run = click.get_current_context().find_object(Run)
    assert run is not None
    return run


class CommandGroup(click.Group, HeadedCommand):
    """The commands of `max-whisper`.

    The exit code is 0 for a command that did all that was asked for, 2 after a mistake of the user, 1 after a failure,
    and 128 plus the number of the signal after a signal.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of the commands in the order in which they are used, which is that of `main.py`."""
        return [*self.commands]

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Runs the command line and exits."""
        try:
            with Interrupts() as interrupts, opened() as streams:
                code = self._code(Run(streams, interrupts), args, extra)
        except Interrupted as interrupted:  # it came while the last message was written
            code = interrupted.exit_code
        sys.exit(code)

    def _code(self, run: Run, args: tuple[Any, ...], extra: dict[str, Any]) -> int:
        """Runs the command line, says what went wrong, and returns the exit code."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False, "obj": run})
            return code if isinstance(code, int) else 0
        except ReaderGone as error:
            return error.exit_code
        except (MaxWhisperError, click.ClickException, Interrupted) as error:
            run.streams.say(f"error: {sentence(error)}")
            return error.exit_code
        except Exception as error:
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            run.streams.say(f"error: {_unexpected(error)}")
            return 1


def sentence(error: MaxWhisperError | click.ClickException | Interrupted) -> str:
    """Returns the message about an error, with options as they are written on the command line: `--beam-size`."""
    if isinstance(error, Interrupted):
        return "stopped by Ctrl-C" if error.signal == signal.SIGINT else f"stopped by {error.signal.name}"
    if isinstance(error, click.ClickException):
        message = " ".join(error.format_message().split()).rstrip(".")
        context = error.ctx if isinstance(error, click.UsageError) else None
        return f"{message}; see {context.command_path} --help" if context else message
    return error.spelled(flag_of) if isinstance(error, OptionError) else str(error)


def _unexpected(error: Exception) -> str:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, OSError | MemoryError):  # the machine's fault, as far as we can tell
        return f"the system refused something that was needed ({what}); with {TRACEBACK}=1 you see where"
    return (
        f"{what}: this is a bug of max-whisper; please report it with the command and with what {TRACEBACK}=1 adds to "
        "this message"
    )
