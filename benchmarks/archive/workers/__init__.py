"""The programs that are compared with `max-whisper batch`."""
