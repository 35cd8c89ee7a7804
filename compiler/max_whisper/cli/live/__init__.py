"""Transcribes sound while it is said, for people in front of a terminal: `max-whisper live`."""
