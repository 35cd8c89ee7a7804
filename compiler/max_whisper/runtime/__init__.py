"""Runs an artifact: audio to log-mel to tokens to text. It imports neither the spec nor the compiler."""
