"""Fuzzes what clients send to /v1/realtime: whatever it is, events of the protocol come back, and the server lives."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from max_whisper import load_audio
from max_whisper.serve.errors import RequestError
from max_whisper.serve.realtime.config import HYPOTHESIS, Config
from support.harness import LONGEST_MESSAGE, Budget, refusal
from support.realtime import COMPLETED, raw, sound_input
from support.server import Server
from support.server_fixtures import COMMANDS
from support.sounds import int16
from websockets.exceptions import ConnectionClosed

SOUND = int16(load_audio(COMMANDS)[:32000]).tobytes()
NAMES = [
    *("type", "audio", "input", "format", "rate", "transcription", "model", "language", "prompt", "keywords", "delay"),
    *("turn_detection", "threshold", "prefix_padding_ms", "silence_duration_ms", "noise_reduction", "include", "x"),
]
VALUES: list[Any] = [
    *(None, True, 0, -1, 0.5, 1, 300, 8000, 1e300, float("nan"), 10**400, "", "x" * 3000, "\ud800", "\0", [], {}, [[]]),
    *(
        "transcription",
        "audio/pcm",
        "audio/pcmu",
        "audio/pcma",
        "server_vad",
        "semantic_vad",
        "nano",
        "en",
        "whisper-1",
    ),
    *([HYPOTHESIS], ["a"], {"type": "server_vad"}, {"type": "audio/pcma"}, {"language": "en"}),
]
KNOWN = ("session.", "input_audio_buffer.", "conversation.item.", "error", HYPOTHESIS)


def session(random: random.Random) -> Any:
    """Returns a session whose fields may be wrong."""
    value: Any = random.choice(VALUES)
    for _ in range(random.randint(0, 4)):
        value = {name: random.choice(VALUES) for name in random.sample(NAMES, random.randint(0, 2))} | {
            random.choice(NAMES): value
        }
    return random.choice([value, sound_input(**value) if isinstance(value, dict) else value])


def test_any_update_is_taken_or_refused(budget: Budget) -> None:
    for _, generator in budget.cases(3000, 10):
        asked = session(generator)
        config = Config("nano")
        if refusal(lambda: config.updated(asked), kind=RequestError) is None:  # noqa: B023 (called at once)
            updated = config.updated(asked)
            json.dumps(updated.json())
            assert Config("nano").updated(updated.json() | {"include": []}).sound == updated.sound


def message(random: random.Random) -> str | bytes:
    """Returns a message that is right most of the time."""
    start = random.randrange(len(SOUND))
    sound = base64.b64encode(SOUND[start : start + random.choice([0, 1, 100, 40_001])]).decode()
    event: Any = random.choice(
        [
            {"type": "input_audio_buffer.append", "audio": sound},
            {"type": "input_audio_buffer.append", "audio": sound},
            {"type": "input_audio_buffer.append", "audio": random.choice(VALUES)},
            {"type": "input_audio_buffer.commit"},
            {"type": "input_audio_buffer.clear"},
            {"type": "session.update", "session": session(random)},
            {"type": "session.update", "session": sound_input(turn_detection=None)},
            {"type": random.choice(VALUES)},
            random.choice(VALUES),
        ]
    )
    if isinstance(event, dict) and random.random() < 0.2:
        event[random.choice(["event_id", "x", "type"])] = random.choice(VALUES)
    text = json.dumps(event)
    if random.random() < 0.1:
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(["", "}", '"', "\0", "é"]) + text[at + 1 :]
    return text.encode() if random.random() < 0.03 else text


@pytest.mark.usefixtures("silero")
def test_any_session_is_answered(shared: Server, budget: Budget) -> None:
    for number, generator in budget.cases(40, 40):
        with raw(shared) as connection:
            try:
                for _ in range(generator.randint(1, 25)):
                    connection.send(message(generator))
                connection.send({"type": "the end"})
                while "the end" not in (event := connection.next()).get("error", {}).get("message", ""):
                    assert event["type"].startswith(KNOWN), (number, event)
                    if event["type"] == "error":
                        told = event["error"]["message"]
                        assert told.isprintable(), (number, told)
                        assert len(told) <= LONGEST_MESSAGE, (number, told)
                        assert event["error"]["type"] == "invalid_request_error", (number, event)
                    assert not event["type"].endswith(".failed"), (number, event)
            except (ConnectionClosed, TimeoutError) as error:
                raise AssertionError(number) from error
    with raw(shared) as connection:
        connection.append(bytes(4800))
        connection.update(sound_input(turn_detection=None))
        connection.error()
        connection.send({"type": "input_audio_buffer.commit"})
        connection.until(COMPLETED)
    shared.wait_until_idle()
    assert not any("Traceback" in line for line in shared.lines)
