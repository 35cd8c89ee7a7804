"""Cancels a decoder at work: before each token, it calls a function that says whether to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from max_whisper.errors import Cancelled

Stop: TypeAlias = Callable[[], bool]
"""A function that returns whether to stop now. It is called before each token, so it must be quick."""


def never() -> bool:
    """Returns False, for work that nobody cancels."""
    return False


def raise_if_stopped(stop: Stop) -> None:
    """Raises Cancelled if `stop()` returns True."""
    if stop():
        raise Cancelled
