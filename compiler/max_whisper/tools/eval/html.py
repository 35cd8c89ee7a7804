"""Makes HTML whose text is escaped unless it was made here."""

from __future__ import annotations

import html

from max_whisper.messages import printable


class Html(str):
    """HTML that `element` made, or that is written in our own sources; any other text is escaped where it is used."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Html:
    """Returns an element.

    Args:
        name: The name of its tag.
        children: What it contains; text that is no Html is escaped.
        attributes: Its attributes, escaped; `_` in a name stands for `-`, and one behind it is left out (`class_`).
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: str) -> Html:
    """Returns elements and text, which is escaped, one after the other."""
    return Html("".join(child if isinstance(child, Html) else _escaped(child) for child in children))


def _escaped(text: str) -> str:
    """Returns text as HTML shows it; characters that would change the direction or the end of a line are spelled."""
    return html.escape(printable(text))
