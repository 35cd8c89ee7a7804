"""Transcribes sound while it is said: `Model.stream`."""
