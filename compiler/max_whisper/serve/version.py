"""The version of max-whisper, as the protocols tell it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

PROGRAM = "max-whisper"


@cache
def program_version() -> str:
    """Returns the version of the package that is installed."""
    return version(PROGRAM)
