"""Puts load on `max-whisper serve`, with clients that misbehave, beside faster-whisper behind a small FastAPI app."""
