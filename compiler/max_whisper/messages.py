"""Text for messages: foreign text made safe to print, and names that were probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST_MESSAGE = 2000
"""Characters of an error message. What is longer was not written by us: a name, a path, the header of a file."""
LONGEST_QUOTE = 60


def printable(text: object, limit: int = LONGEST_MESSAGE) -> str:
    """Returns text on one line that no terminal obeys: control characters are escaped, the middle of long text is cut.

    Everything that we did not write (file names, tensor names, tokens, words of other libraries) goes through here
    before it is printed. `MaxWhisperError` does so for every error message.

    text: anything; `str` is taken of it.
    limit: the most characters that are returned.
    """
    line = str(text)
    if len(line) > limit:
        kept = (limit - 5) // 2
        line = f"{line[:kept]} ... {line[-kept:]}"
    if not line.isprintable():
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        if len(line) > limit:  # escapes are longer than what they stand for
            line = f"{line[: limit - 4]} ..."
    return line


def quote(text: str) -> str:
    """Returns `text` in quotes, with anything unprintable escaped and anything long cut short."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "...")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name that `name` was most likely meant to be, if one is close."""
    import difflib

    matches = difflib.get_close_matches(name[:100].lower(), list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: str, names: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`, or nothing when no name is close."""
    match = nearest(name, names)
    return f"; did you mean {quote(match)}?" if match else ""


def one_of(names: Iterable[str]) -> str:
    """Returns `one of a, b, c`, or the only name there is."""
    listed = list(names)
    return quote(listed[0]) if len(listed) == 1 else "one of " + ", ".join(listed)


_JSON_TYPES = {
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def in_words(error: object) -> str:
    """Returns a message of msgspec with the field first: "a[3]: expected an integer or null, got text"."""
    what, _, location = str(error).partition(" - at ")
    field = location.strip("`").removeprefix("$").removeprefix(".")
    text = re.sub("`([^`]*)`", lambda match: _types_in_words(match[1]), what)
    return f"{field}{': ' if field else ''}{text[:1].lower()}{text[1:]}"


def _types_in_words(names: str) -> str:
    return " or ".join(_JSON_TYPES.get(name, repr(name)) for name in names.split(" | "))
