"""Fuzzes what Wyoming clients send: whatever it is, the server answers with events of the protocol, and lives."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

from max_whisper import Model, load_audio
from support.harness import LONGEST_MESSAGE, Budget
from support.server import Server
from support.server_fixtures import COMMANDS
from support.sounds import int16
from support.wyoming_client import address, ask_late, events_of, with_client

SOUND = load_audio(COMMANDS)[:32000]
KNOWN = {"info", "pong", "transcript-start", "transcript-chunk", "transcript", "transcript-stop", "error"}
VALUES = [None, True, 0, -1, 1, 2, 0.5, 1e300, 10**30, "", "x" * 3000, "\ud800", "\0", [], {}, [[]], "de", 16000, 48000]
LENGTHS = [0, 1, 2, 63, 64, 4096, 100_000]


def sent(random: random.Random) -> bytes:
    """Returns the events of a client that does most things right, and some bytes of it changed."""
    parts = []
    for _ in range(random.randint(1, 8)):
        kind = random.choice(
            ["describe", "ping", "transcribe", "audio-start", "audio-chunk", "audio-chunk", "audio-stop", "x"]
        )
        data = {"rate": 16000, "width": 2, "channels": 1} if kind.startswith("audio-") else {}
        if random.random() < 0.3:
            name = random.choice(["rate", "width", "channels", "text", "name", "language", "transcript_names"])
            data[name] = random.choice(VALUES)
        payload = random.randbytes(random.choice(LENGTHS)) if kind == "audio-chunk" else b""
        line = {"type": kind, "payload_length": len(payload)}
        more = json.dumps(data).encode()
        if random.random() < 0.5:
            line["data_length"] = len(more)
        else:
            line["data"], more = data, b""
        if random.random() < 0.1:
            line[random.choice([*line])] = random.choice(VALUES)
        parts.append(json.dumps(line).encode() + b"\n" + more + payload)
    whole = bytearray(b"".join(parts))
    for _ in range(random.choice([0, 0, 0, 1, 5])):
        whole[random.randrange(len(whole))] = random.randrange(256)
    return bytes(whole[: random.randint(1, len(whole))] if random.random() < 0.2 else whole)


def received(running: Server, data: bytes, random: random.Random) -> list[dict[str, object]]:
    """Sends bytes in pieces, and returns what comes, until the server closes the connection or has nothing to say."""
    answer = b""
    with socket.create_connection(address(running), timeout=1) as plain:
        try:
            while data:
                size = random.choice([1, 100, 1 << 20])
                plain.sendall(data[:size])
                data = data[size:]
            if random.random() < 0.5:
                plain.shutdown(socket.SHUT_WR)
            if random.random() < 0.2:
                return []  # gone without reading
            plain.settimeout(0.2)
            while more := plain.recv(1 << 16):
                answer += more
        except OSError:  # closed, or silent
            pass
    return events_of(answer)


def test_events(shared: Server, nano: Model, budget: Budget) -> None:
    expected = nano.transcribe(SOUND).text.strip()
    temporary: Path = shared.temporary
    for number, random_ in budget.cases(150, 90):
        data = sent(random_)
        for event in received(shared, data, random_):
            assert event["type"] in KNOWN, (number, event)
            fields = event["data"]
            assert isinstance(fields, dict)
            if event["type"] == "error":
                assert fields["text"].isprintable() and 10 <= len(fields["text"]) <= LONGEST_MESSAGE, (number, fields)
                assert "bug" not in fields["text"], (number, fields, data[:500])
        assert shared.process.poll() is None, number
        if number % 25 == 0:
            assert with_client(shared, lambda client: ask_late(client, int16(SOUND).tobytes())) == expected, number
    shared.wait_until_idle()
    assert [*temporary.rglob("*")] == []
    assert not [line for line in shared.lines if "Traceback" in line or "wyoming:" in line], shared.lines
