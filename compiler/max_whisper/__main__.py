"""`max-whisper`, and `python -m max_whisper`."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line.

    Until that has begun, Ctrl-C ends the process without a word, as it does with any program: there is nothing to keep.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from max_whisper.cli.main import main as command

    command(prog_name="max-whisper")


if __name__ == "__main__":
    main()
