"""The terminal's part of `max-whisper batch`."""
