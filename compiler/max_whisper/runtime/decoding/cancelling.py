"""How a caller ends a decoder that is at work: it is asked before each token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from max_whisper.errors import Cancelled

Stop: TypeAlias = Callable[[], bool]
"""Returns whether the work is to end now; it is called once before each token, so it must be quick."""


def never() -> bool:
    """Returns False: nobody cancels the work."""
    return False


def check(stop: Stop) -> None:
    """Raises Cancelled if the work is to end."""
    if stop():
        raise Cancelled
