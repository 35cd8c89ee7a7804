"""`python -m max_whisper` is `max-whisper`."""

from max_whisper.cli import main

main(prog_name="max-whisper")
