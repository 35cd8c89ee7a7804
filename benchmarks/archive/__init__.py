"""Measures how fast an archive is transcribed: `max-whisper batch`, one recording after the other, faster-whisper."""
