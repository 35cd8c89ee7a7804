"""Reads events of the Wyoming protocol: a line of JSON, more JSON where that says so, and bytes, such as sound.

Wyoming's own package reads whatever sizes a client names into memory. Here, each has a bound, and the bytes of an event
are read in pieces.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from max_whisper.serve.errors import RequestError
from max_whisper.serve.shown import shown

MAX_LINE = 64 << 10
"""The longest line of JSON, in bytes."""
MAX_DATA = 256 << 10
"""The most bytes of JSON behind the line; the names of all things in a house fit into it."""
MAX_PAYLOAD = 1 << 62
"""The largest number that is taken for one of bytes; how many of them are read is up to the reader of the event."""
LONGEST_TYPE = 100


class Garbage(RequestError):
    """What a client sent is no event of the protocol."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(
            400, f"expected {expected}, got {got}: this port speaks the Wyoming protocol", code="bad_event"
        )


@dataclass(frozen=True)
class Head:
    """An event without its bytes.

    Attributes:
        type: What kind of event it is.
        data: Its fields.
        payload: The number of bytes that follow, and must be read before the next event.
    """

    type: str
    data: dict[str, Any]
    payload: int


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Returns the next event; None where the client has closed the connection, or closes it before the event ends.

    Raises Garbage for what is no event.
    """
    try:
        line = await reader.readuntil(b"\n")
        fields = _object(line, "a line with an object in JSON")
        more = _length(fields, "data_length", MAX_DATA)
        data = fields.get("data")
        if not isinstance(data, dict | None):
            raise Garbage("an object as data", shown(data))
        data = {**(data or {}), **(_object(await reader.readexactly(more), "an object in JSON") if more else {})}
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise Garbage(f"a line of JSON of at most {MAX_LINE} bytes", "a longer one") from None
    kind = fields.get("type")
    if not isinstance(kind, str) or not 0 < len(kind) <= LONGEST_TYPE:
        raise Garbage("the name of an event as type", shown(kind))
    return Head(kind, data, _length(fields, "payload_length", MAX_PAYLOAD))


def _object(text: bytes, expected: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Garbage(expected, shown(text.decode(errors="replace"))) from None
    if not isinstance(value, dict):
        raise Garbage(expected, shown(value))
    return value


def _length(fields: dict[str, Any], name: str, most: int) -> int:
    """Returns a number of bytes; 0 where there is none."""
    value = fields.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Garbage(f"a number of bytes, 0 to {most}, as {name}", shown(value))
    return value
