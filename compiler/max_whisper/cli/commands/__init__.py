"""The commands of `max-whisper`, a file for each."""
