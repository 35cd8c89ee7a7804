"""Makes text for messages: makes untrusted text safe to print, and suggests names that were probably meant."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

LONGEST_MESSAGE = 2000
"""The most characters of a message. Longer ones contain untrusted text: a name, a path, the header of a file."""
MAX_COMPARED = 2000
"""The most names that a misspelled one is compared with: a file may hold a million."""
LONGEST_QUOTE = 60
"""The most characters of a quotation in a message."""


def printable(text: object, limit: int = LONGEST_MESSAGE) -> str:
    """Returns one line of text that is safe to print: control characters are escaped, the middle of long text is cut.

    All untrusted text (names of files and tensors, tokens, messages of other libraries) goes through here before it is
    printed. `MaxWhisperError` does so for every error message.

    Args:
        text: The text, or an object whose `str` is the text.
        limit: The most characters that are returned.
    """
    line = str(text)
    if len(line) > limit:
        kept = (limit - 5) // 2
        line = f"{line[:kept]} ... {line[-kept:]}"
    if not line.isprintable():
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        if len(line) > limit:  # escapes are longer than the characters they stand for
            line = f"{line[: limit - 4]} ..."
    return line


def quote(text: str) -> str:
    """Returns `text` in quotes, with unprintable characters escaped, and cut short if it is long."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "...")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the one of the first names that is most similar to `name`; None if none is similar."""
    import difflib

    compared = list(itertools.islice(names, MAX_COMPARED))
    matches = difflib.get_close_matches(name[:100].lower(), compared, n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: str, names: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the most similar name; "" if none is similar."""
    match = nearest(name, names)
    return f"; did you mean {quote(match)}?" if match else ""


def one_of(names: Iterable[str]) -> str:
    """Returns "one of a, b, c" for messages, or just the name, in quotes, if there is only one."""
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


def validation_message(error: object) -> str:
    """Returns msgspec's message with the field first: "a[3]: expected an integer or null, got text"."""
    problem, _, location = str(error).partition(" - at ")
    field = location.strip("`").removeprefix("$").removeprefix(".")
    text = re.sub("`([^`]*)`", lambda match: _describe_types(match[1]), problem)
    return f"{field}{': ' if field else ''}{text[:1].lower()}{text[1:]}"


def _describe_types(names: str) -> str:
    return " or ".join(_JSON_TYPES.get(name, repr(name)) for name in names.split(" | "))
