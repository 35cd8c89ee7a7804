"""Counts the errors of models in the words of recordings whose text is known."""
