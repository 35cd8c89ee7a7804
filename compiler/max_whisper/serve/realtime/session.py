"""A session: takes a client's events one after the other, in a thread, and feeds the sound to a stream."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from max_whisper.errors import Cancelled
from max_whisper.messages import one_of, quote, suggestion
from max_whisper.runtime.streaming.events import StreamEvent
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import Reason, stopping
from max_whisper.serve.live.fed_stream import FED_SECONDS, FedStream, open_stream
from max_whisper.serve.live.inbox import Inbox
from max_whisper.serve.pool import Entry
from max_whisper.serve.realtime.config import OPENAI_NAMES, Config
from max_whisper.serve.realtime.endings import BUFFER, idle, nothing_to_commit, over, spelled, uncommitted
from max_whisper.serve.realtime.events import Event, error_event, event, new_id, read_event
from max_whisper.serve.realtime.fields import known, wrong_value
from max_whisper.serve.realtime.items import Items
from max_whisper.serve.transcribing import Task
from max_whisper.serve.work import Work

PATH = "/v1/realtime"
"""The address, also for metrics."""
LOOK_SECONDS = 0.25
"""The seconds between two looks if the server stops."""
LAST_SECONDS = 5.0
"""The seconds before the end of a session's time in which what is being said is ended; a tenth of a short time."""
IDLE_SECONDS = 600.0
"""The seconds without a message after which a session ends, so that others have its place."""


class Session:
    """The session of a client, whose methods run in its thread.

    A stream begins with the first sound, or with an update. It is replaced by another one when what it does is changed,
    or its sound is thrown away.
    """

    def __init__(self, work: Work, inbox: Inbox[str], config: Config, loop: asyncio.AbstractEventLoop) -> None:
        """Takes what a session works with. loop: the event loop, in which models are loaded."""
        self._work = work
        self._inbox = inbox
        self._loop = loop
        self._id = new_id("sess")
        self._config = config
        self._give: Callable[[Event], None] = lambda event: None
        self._items = Items(config, lambda event: self._give(event))
        self._task: Task | None = None
        self._stream: FedStream | None = None
        self._waiting: list[bytes] = []  # sound that was not fed
        self._since = 0.0  # when the first of it came
        self._cause: object = None  # the event_id of what brought it
        self._bytes = 0  # the sound since the stream began, also that which was not fed
        self._unpaired = 0  # the bytes to come of a sample whose other byte was thrown away
        self._buffered = False  # whether there is sound that was not committed
        self._speaking = False  # whether a phrase of the stream is being said
        self._finals = 0  # the phrases of the stream that have ended
        self._broken = False  # whether no stream could begin, and the client knows
        self._handlers: dict[str, Callable[[Mapping[str, Any], float], None]] = {
            "session.update": self._update,
            f"{BUFFER}.append": self._append,
            f"{BUFFER}.commit": self._commit,
            f"{BUFFER}.clear": self._clear,
        }

    def run(self, give: Callable[[Event], None]) -> None:
        """Works until the server stops, or the client sends nothing for too long. give: takes each event.

        Raises Cancelled where the work is cancelled, RequestError at an end that the client did not want.
        """
        self._give = give
        self._give(event("session.created", session=self._session()))
        heard = time.monotonic()
        last = min(LAST_SECONDS, self._work.seconds_left / 10)
        while True:
            messages = self._inbox.take(LOOK_SECONDS)
            for came, text in messages:
                self._answer(text, came)
            self._guarded(self._feed, self._cause)
            heard = time.monotonic() if messages else heard
            reason: Reason | None = None
            if self._work.service.stopping:
                reason = stopping
            elif time.monotonic() - heard > IDLE_SECONDS:
                reason = partial(idle, IDLE_SECONDS)
            elif self._work.seconds_left < last:
                reason = over
            if reason is not None:
                self._guarded(self._end)
                raise reason()

    def _answer(self, text: str, came: float) -> None:
        """Does what an event asks for, or tells what is wrong with it. came: when it came, by `time.monotonic`."""
        asked: Mapping[str, Any] = {}
        try:
            asked = read_event(text)
            handler = self._handlers.get(asked["type"])
            if handler is None:
                raise RequestError(
                    400,
                    f"type: this server does not know the event {quote(asked['type'])}"
                    f"{suggestion(asked['type'], self._handlers)}; expected {one_of(self._handlers)}",
                    param="type",
                    code="unknown_event",
                )
            handler(asked, came)
        except Cancelled:
            raise
        except Exception as error:
            self._give(error_event(spelled(error, PATH), asked.get("event_id")))

    def _update(self, asked: Mapping[str, Any], came: float) -> None:
        known(asked, "session")
        config = self._config.updated(asked.get("session"))
        changed = config.sound != self._config.sound
        if changed or (self._stream is None and not self._buffered):
            if self._buffered:
                raise uncommitted(self._broken)
            stream = self._opened(config)
            self._forget()
            self._use(stream)
        self._config = self._items.config = config
        self._give(event("session.updated", session=self._session()))

    def _append(self, asked: Mapping[str, Any], came: float) -> None:
        known(asked, "audio")
        audio = asked.get("audio")
        if not isinstance(audio, str):
            raise wrong_value("audio", "base64", audio)
        try:
            sound = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise wrong_value("audio", "base64", audio) from None
        sound, self._unpaired = sound[self._unpaired :], 0 if sound else self._unpaired
        if not sound:
            return
        if not self._waiting:
            self._since, self._cause = came, asked.get("event_id")
        self._waiting.append(sound)
        self._bytes += len(sound)
        self._buffered = True

    def _commit(self, asked: Mapping[str, Any], came: float) -> None:
        known(asked)
        ended, cause = self._finals, asked.get("event_id")
        if not self._guarded(partial(self._feed, everything=True), cause):
            return
        if self._buffered:
            self._guarded(self._end, cause)
        elif self._finals == ended:
            raise nothing_to_commit()

    def _end(self) -> None:
        """Ends what is being said, so that it becomes an item."""
        self._feed(everything=True)
        if not self._buffered:
            return
        if self._stream is None:
            raise RequestError(500, "there is no stream: an earlier error says why", kind="server_error")
        found = self._stream.commit()
        self._buffered = False
        self._tell(found, committed=True)
        if self._config.turns is None or not any(one.kind == "final" for one in found):
            self._items.commit()

    def _clear(self, asked: Mapping[str, Any], came: float) -> None:
        known(asked)
        self._forget()
        self._give(event(f"{BUFFER}.cleared"))

    def _forget(self) -> None:
        """Throws away the sound that was not committed. Another stream begins with the next one."""
        format = self._config.format
        seconds, self._unpaired = self._bytes / format.bytes_per_second, -self._bytes % format.width
        if self._stream is not None:
            self._stream.close()
        self._waiting, self._bytes, self._buffered, self._broken, self._stream = [], 0, False, False, None
        self._items.begin_stream(self._items.began + seconds)

    def _feed(self, everything: bool = False) -> None:
        """Feeds the sound that has come. everything: also where it is less than FED_SECONDS."""
        per_second = self._config.format.bytes_per_second
        if not self._waiting or (sum(map(len, self._waiting)) < FED_SECONDS * per_second and not everything):
            return
        if self._stream is None:
            if self._broken:
                self._waiting = []
                return
            try:
                self._use(self._opened(self._config))
            except Exception:
                self._waiting, self._broken = [], True
                raise
        assert self._stream is not None
        sound, self._waiting = b"".join(self._waiting), []
        for found in self._stream.feed(sound, self._since):
            self._tell(found)
        if self._config.turns is not None and self._finals and not self._speaking:
            self._buffered = False

    def _tell(self, found: Sequence[StreamEvent], *, committed: bool = False) -> None:
        self._items.tell(found, committed=committed)
        for one in found:
            if one.kind == "speech_started":
                self._speaking = True
            elif one.kind == "final":
                self._speaking, self._finals = False, self._finals + 1

    def _guarded(self, step: Callable[[], None], cause: object = None) -> bool:
        """Does something with sound; where that fails, tells it, and goes on with another stream.

        cause: the event_id of what led to it. Returns whether it was done.
        """
        try:
            step()
        except Cancelled:
            raise
        except Exception as error:
            answer = spelled(error, PATH)
            if self._broken:  # no stream has begun
                self._give(error_event(answer, cause))
            else:
                self._items.fail(answer)
                self._forget()
            return False
        return True

    def _opened(self, config: Config) -> FedStream:
        """Returns a new stream. Raises RequestError and UserError for what cannot be had."""
        name = config.model
        entry = self._work.service.pool.entry(None if name in OPENAI_NAMES and not self._has(name) else name)
        task = self._task if self._task is not None and self._task.entry is entry else self._load(entry)
        return open_stream(task, config.format, config.options())

    def _use(self, stream: FedStream) -> None:
        """Feeds sound to a stream from now on."""
        self._task, self._stream, self._speaking, self._finals = stream.task, stream, False, 0

    def _has(self, name: str) -> bool:
        return any(entry.name == name for entry in self._work.service.pool.entries)

    def _load(self, entry: Entry) -> Task:
        """Returns what computes with a model, which is loaded if need be, and stays loaded until the session ends."""
        model = asyncio.run_coroutine_threadsafe(self._work.model(entry), self._loop).result()
        return Task(self._work, entry, model)

    def _session(self) -> dict[str, object]:
        return {"object": "realtime.transcription_session", "id": self._id, **self._config.json()}
