"""Decoding: from the features of a window to its text, by options and rules."""
