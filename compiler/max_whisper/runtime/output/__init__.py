"""Writes transcriptions as text, subtitles, tables and JSON."""
