"""The events of a session: those that clients send, read as far as every one has it, and those that they get."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from max_whisper.serve.errors import RequestError
from max_whisper.serve.realtime.fields import wrong_value

Event = dict[str, Any]
LONGEST_ID = 512
"""The most characters of a client's event_id that are sent back."""
TRANSCRIPTION = "conversation.item.input_audio_transcription"


def new_id(kind: str) -> str:
    """Returns the name of something that has none yet. kind: "item", for example."""
    return f"{kind}_{uuid4().hex[:24]}"


def event(type: str, **fields: object) -> Event:
    """Returns an event for the client."""
    return {"type": type, "event_id": new_id("event"), **fields}


def error_event(error: RequestError, cause: object = None) -> Event:
    """Returns the event that tells an error. cause: the event_id of the client's event, whatever it is."""
    by = cause[:LONGEST_ID] if isinstance(cause, str) else None
    return event("error", error={**error.body()["error"], "event_id": by})


def read_event(text: str) -> Mapping[str, Any]:
    """Returns an event of the client. Raises RequestError for what is no object in JSON with a type."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(400, "the message is no JSON: send an event as an object", code="invalid_json") from None
    if not isinstance(value, dict):
        raise wrong_value("the message", "an object", value)
    if not isinstance(value.get("type"), str):
        raise wrong_value("type", "the type of an event", value.get("type"))
    return value


def item_event(type: str, item_id: str, previous: str | None) -> Event:
    """Returns the event about an item of the conversation, which is what somebody has said."""
    content = {"type": "input_audio", "transcript": None}
    item = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [content],
    }
    return event(type, previous_item_id=previous, item=item)
