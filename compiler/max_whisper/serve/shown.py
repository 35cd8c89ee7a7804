"""Looks at values of strangers, and shows them in messages."""

from __future__ import annotations

import json

from max_whisper.messages import quote


def shown(value: object) -> str:
    """Returns a value of JSON as a message shows it, whatever it is and however large."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a larger number"
    return json.dumps(value)


def can_be_written(text: str) -> bool:
    """Returns whether a text can be sent; JSON may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
