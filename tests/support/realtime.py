"""Speaks with /v1/realtime: by OpenAI's client, and by plain WebSockets for what that would not send."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from max_whisper import Model, load_audio
from support.server import Server
from support.sounds import Samples, int16
from websockets.sync.client import ClientConnection, connect

INTENT = {"intent": "transcription"}
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
SECONDS = 60


def sound_input(**fields: object) -> dict[str, Any]:
    """Returns a session with some fields of its input."""
    return {"type": "transcription", "audio": {"input": fields}}


def pcm24(path: Path, silence: float = 1.0) -> bytes:
    """Returns a recording at 24 kHz as s16le, with silence behind it."""
    samples = load_audio(path)
    times = np.arange(int(len(samples) * 1.5)) / 1.5
    resampled = np.interp(times, np.arange(len(samples)), samples).astype(np.float32)
    return int16(np.concatenate([resampled, np.zeros(round(24000 * silence), np.float32)])).tobytes()


def pieces(sound: bytes, size: int = 4800) -> Iterator[str]:
    """Yields parts of a sound in base64."""
    for first in range(0, len(sound), size):
        yield base64.b64encode(sound[first : first + size]).decode()


def speak(connection: Any, sound: bytes, size: int = 4800, pause: float = 0.0) -> threading.Thread:
    """Sends a sound by OpenAI's client, in a thread of its own."""

    def send() -> None:
        for piece in pieces(sound, size):
            connection.input_audio_buffer.append(audio=piece)
            time.sleep(pause)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def events_until(connection: Any, wanted: Callable[[Any], object]) -> list[Any]:
    """Returns the events that come, by OpenAI's client, until one for which a function is true."""
    events: list[Any] = []
    for event in connection:
        events.append(event)
        if wanted(event):
            return events
    raise AssertionError([event.type for event in events])


def completed(count: int) -> Callable[[Any], bool]:
    """Returns a function that is true of the event that completes the last of some items."""
    seen = 0

    def wanted(event: Any) -> bool:
        nonlocal seen
        assert event.type != "error", event
        seen += event.type == COMPLETED
        return seen == count

    return wanted


def texts(model: Model, sound: bytes, **options: Any) -> list[str]:
    """Returns the final texts of `Model.stream` for a sound of s16le at 24 kHz."""
    stream = model.stream(sample_rate=24_000, **{"vad_min_silence_duration_ms": 500, **options})
    events = [*stream.feed(sound), *stream.commit()]
    return [event.text.strip() for event in events if event.kind == "final"]


class Raw:
    """A plain WebSocket at /v1/realtime."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, message: object) -> None:
        """Sends an event, or text and bytes as they are."""
        self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def append(self, sound: bytes) -> None:
        self.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()})

    def update(self, session: object, **fields: object) -> None:
        self.send({"type": "session.update", "session": session, **fields})

    def next(self, seconds: float = SECONDS) -> dict[str, Any]:
        """Returns the next event."""
        return json.loads(self.socket.recv(seconds))

    def until(self, kind: str) -> dict[str, Any]:
        """Returns the next event of a type."""
        while (event := self.next())["type"] != kind:
            assert event["type"] != "error", event
        return event

    def error(self) -> dict[str, Any]:
        """Returns the error that comes next."""
        event = self.next()
        assert event["type"] == "error", event
        return event["error"]


@contextmanager
def raw(running: Server, query: str = "?intent=transcription", created: bool = True, **options: Any) -> Iterator[Raw]:
    """Yields a connection, closed at the end of the block. created: whether to read `session.created` first."""
    address = running.url.replace("http", "ws", 1) + "/v1/realtime" + query
    with connect(address, proxy=None, max_size=None, max_queue=None, **options) as socket:
        opened = Raw(socket)
        if created:
            assert opened.next()["type"] == "session.created"
        yield opened


def kinds(events: Sequence[Any]) -> list[str]:
    """Returns the types of events, without what they have in common."""
    return [
        event.type.replace("input_audio_transcription.", "").rpartition("input_audio_buffer.")[2] for event in events
    ]


def g711(samples: Samples, kind: str) -> bytes:
    """Returns samples at 16 kHz in G.711 at 8 kHz, encoded by FFmpeg. kind: "pcm_mulaw" or "pcm_alaw"."""
    import av

    context = av.CodecContext.create(kind, "w")
    context.sample_rate, context.layout, context.format = 8000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(int16(samples[::2])[None], "s16", "mono")
    frame.sample_rate = 8000
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
