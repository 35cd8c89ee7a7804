"""Comparisons: with transformers, layer by layer, and with openai/whisper, tokens and texts."""
