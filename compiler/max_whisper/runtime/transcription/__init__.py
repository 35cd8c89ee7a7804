"""Transcribes whole recordings: what is asked of the model window after window, and what becomes of the answers."""
