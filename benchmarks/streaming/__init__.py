"""Live transcription: how late words come, how many are right, and what it costs."""
