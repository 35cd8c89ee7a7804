"""Finds recordings: in folders, by patterns, in lists and tables, here and behind URLs."""
