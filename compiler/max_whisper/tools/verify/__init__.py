"""Verifies an artifact: compares it with transformers, layer by layer."""
