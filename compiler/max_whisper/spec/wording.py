"""How error messages quote what was written and suggest what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def quote(text: str) -> str:
    """`text` in quotes, with anything unprintable escaped and anything long cut short."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that `name` was most likely meant to be, if one is close."""
    matches = difflib.get_close_matches(name[:100].lower(), list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing when no name is close."""
    match = nearest(name, names)
    return f"; did you mean {quote(match)}?" if match else ""


def one_of(names: Iterable[str]) -> str:
    """`one of a, b, c`, or the only name there is."""
    listed = list(names)
    return quote(listed[0]) if len(listed) == 1 else "one of " + ", ".join(listed)
