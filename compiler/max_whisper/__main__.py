"""The entry point of `max-whisper` and of `python -m max_whisper`."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line.

    Ctrl-C ends the process silently until the command line is imported: there is nothing to clean up before.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from max_whisper.cli.main import main as command

    command(prog_name="max-whisper")


if __name__ == "__main__":
    main()
