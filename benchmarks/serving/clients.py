"""The clients: each sends one request after another, and some of these requests misbehave.

| kind | what it does | what it must get |
|---|---|---|
| good | sends a recording and reads the answer | its text |
| slow | reads the answer by a few bytes at a time, a stream every second time | its text |
| garbage | sends noise as a recording, a form without one, a broken form, or what is no HTTP | a status of 400 to 499 |
| cut | sends the head and a part of the recording, and closes the connection | nothing |
| killed | sends all, and closes or resets the connection before the answer | nothing |
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from benchmarks.serving.wire import Lost, Reply, ask, form, get, post, vanish

PATH = "/v1/audio/transcriptions"
FAULTS = ("slow", "garbage", "cut", "killed")
RIGHT, WRONG, LOST, REFUSED, UNEXPECTED = "right", "wrong", "lost", "refused", "unexpected"
"""The outcomes: as it must be; another text; no complete answer; 429; another status, or a message that is none."""


@dataclass(frozen=True)
class Clip:
    """A recording: its file's name, bytes and seconds, and the language that clients name."""

    name: str
    content: bytes
    seconds: float
    language: str


@dataclass(frozen=True)
class Event:
    """What became of one request.

    Attributes:
        kind: "good", or one of FAULTS.
        outcome: One of the five above.
        seconds: From the connection to the last byte of the answer.
        ended: When that was, in seconds since the start of the load.
        audio: The seconds of its recording, if its text came and is right.
        detail: What was wrong.
    """

    kind: str
    outcome: str
    seconds: float
    ended: float
    audio: float = 0.0
    detail: str = ""


class Load:
    """Clients of one server."""

    def __init__(
        self, port: int, clips: Sequence[Clip], texts: Mapping[str, str], *, faults: float, ours: bool, seed: int
    ) -> None:
        """Takes the clips and the right text of each by its name.

        port: that of the server at 127.0.0.1. faults: the share of requests that misbehave. ours: whether it is
        max-whisper, which has streams and says what is wrong in OpenAI's form. seed: makes the choice of requests.
        """
        self._port = port
        self._clips = clips
        self._texts = texts
        self._faults = faults
        self._ours = ours
        self._random = random.Random(seed)
        self._began = 0.0

    async def run(self, clients: int, seconds: float) -> list[Event]:
        """Lets some clients send requests for some seconds; returns what became of each, after the last answer."""
        self._began = perf_counter()
        events: list[Event] = []

        async def client() -> None:
            while perf_counter() - self._began < seconds:
                misbehaves = self._random.random() < self._faults
                kind = self._random.choice(FAULTS) if misbehaves else "good"
                events.append(event := await self.one(kind))
                if event.outcome == REFUSED:
                    await asyncio.sleep(float(event.detail))  # as OpenAI's client does it

        await asyncio.gather(*(client() for _ in range(clients)))
        return events

    async def one(self, kind: str) -> Event:
        """Sends a request of a kind."""
        chance, clip = self._random, self._random.choice(self._clips)
        begun = perf_counter()
        outcome, detail = RIGHT, ""
        try:
            if kind in ("good", "slow"):
                outcome, detail = await self._transcribed(clip, slowly=kind == "slow")
            elif kind == "garbage":
                outcome, detail = await self._garbage()
            else:
                whole = post(PATH, form(self.fields(clip), clip.name, clip.content))
                cut = kind == "cut"
                sent = whole[: chance.randrange(200, len(whole) - 100)] if cut else whole
                await vanish(self._port, sent, chance.uniform(0, 0.5 if cut else 2.0), reset=chance.random() < 0.5)
        except Lost as error:
            outcome, detail = LOST, f"{clip.name}: {error}"
        ended = perf_counter()
        audio = clip.seconds if kind in ("good", "slow") and outcome == RIGHT else 0.0
        return Event(kind, outcome, ended - begun, ended - self._began, audio, detail)

    @staticmethod
    def fields(clip: Clip) -> dict[str, str]:
        """Returns the fields of a request for a clip."""
        return {"model": "whisper-1", "language": clip.language}

    async def _transcribed(self, clip: Clip, slowly: bool) -> tuple[str, str]:
        streamed = slowly and self._ours and self._random.random() < 0.5
        fields = self.fields(clip) | ({"stream": "true"} if streamed else {})
        reply = await ask(self._port, post(PATH, form(fields, clip.name, clip.content)), slowly=slowly)
        if reply.status == 429:
            return REFUSED, reply.headers.get("retry-after", "1")
        if reply.status != 200:
            return UNEXPECTED, f"{clip.name}: {reply.status} {reply.body[:200]!r}"
        text = streamed_text(reply.body) if streamed else text_of(reply)
        if text is None:
            return LOST, f"{clip.name}: no text in {reply.body[:200]!r}"
        if text != self._texts[clip.name]:
            return WRONG, f"{clip.name}: {text!r} in place of {self._texts[clip.name]!r}"
        return RIGHT, ""

    async def _garbage(self) -> tuple[str, str]:
        noise = self._random.randbytes(self._random.randrange(1, 50_000))
        whole = form({"model": "whisper-1"}, "noise.wav", noise)
        what, sent = self._random.choice(
            [
                ("noise", post(PATH, whole)),
                ("no file", post(PATH, form({"model": "whisper-1"}))),
                ("broken form", post(PATH, whole[: len(whole) // 2])),
                ("no HTTP", b"\x00\xff" + noise[:1000] + b"\r\n\r\n"),
            ]
        )
        reply = await ask(self._port, sent)
        if reply.status == 429:
            return REFUSED, reply.headers.get("retry-after", "1")
        if not 400 <= reply.status < 500:
            return UNEXPECTED, f"{what}: {reply.status} {reply.body[:200]!r}"
        if self._ours and what != "no HTTP" and not is_sentence(reply):
            return UNEXPECTED, f"{what}: no sentence in {reply.body[:200]!r}"
        return RIGHT, ""


async def in_turn(port: int, clips: Sequence[Clip]) -> dict[str, str]:
    """Asks for each clip, one after the other; returns their texts. Raises Lost where one has none."""
    texts = {}
    for clip in clips:
        reply = await ask(port, post(PATH, form(Load.fields(clip), clip.name, clip.content)))
        text = text_of(reply)
        if reply.status != 200 or text is None:
            raise Lost(f"{clip.name}: {reply.status} {reply.body[:200]!r}")
        texts[clip.name] = text
    return texts


async def answers(port: int, path: str) -> Reply | None:
    """Returns the answer to a GET request; None where nobody answers."""
    try:
        return await ask(port, get(path))
    except Lost:
        return None


def text_of(reply: Reply) -> str | None:
    """Returns the text of an answer, without spaces around it; None where it has none."""
    body = reply.json()
    text = body.get("text") if isinstance(body, dict) else None
    return text.strip() if isinstance(text, str) else None


def streamed_text(body: bytes) -> str | None:
    """Returns the joined deltas of a stream; None where it does not end as it must, or its end has another text."""
    events = [part.removeprefix("data: ") for part in body.decode().split("\n\n") if part.startswith("data: ")]
    if not events or events.pop() != "[DONE]":
        return None
    parts = [json.loads(event) for event in events]
    if not parts or parts[-1].get("type") != "transcript.text.done":
        return None
    joined = "".join(part["delta"] for part in parts if part.get("type") == "transcript.text.delta")
    done = parts[-1]["text"]
    return done.strip() if joined == done else None


def is_sentence(reply: Reply) -> bool:
    """Returns whether an answer is an error in OpenAI's form with one line that says what is wrong."""
    body = reply.json()
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return isinstance(message, str) and len(message) > 10 and "\n" not in message and "Traceback" not in message
