"""`python -m max_whisper.cli` is `max-whisper`."""

from max_whisper.cli import main

main()
