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
from max_whisper.options import OptionError
from max_whisper.runtime.streaming.events import StreamEvent
from max_whisper.runtime.streaming.stream import Stream
from max_whisper.serve.answers import answer_to
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import stopping
from max_whisper.serve.pool import Entry
from max_whisper.serve.realtime.config import OPENAI_NAMES, OPTION_FIELDS, Config
from max_whisper.serve.realtime.events import Event, error_event, event, new_id, read_event
from max_whisper.serve.realtime.fields import Fields, wrong_value
from max_whisper.serve.realtime.inbox import Inbox
from max_whisper.serve.realtime.items import Items
from max_whisper.serve.transcribing import Task
from max_whisper.serve.work import Work

PATH = "/v1/realtime"
"""The address, also for metrics."""
FED_SECONDS = 0.1
"""The sound that is fed at least, where no event follows it: each feeding is a turn among those who compute."""
TURN_SECONDS = 5.0
"""The most sound of a turn: others have theirs between two."""
LOOK_SECONDS = 0.25
"""The seconds between two looks if the server stops."""
IDLE_SECONDS = 600.0
"""The seconds without a message after which a session ends, so that others have its place."""
BUFFER = "input_audio_buffer"


class Session:
    """The session of a client, whose methods run in its thread.

    A stream begins with the first sound, or with an update. It is replaced by another one when what it does is changed,
    or its sound is thrown away.
    """

    def __init__(self, work: Work, inbox: Inbox, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        """Takes what a session works with. loop: the event loop, in which models are loaded."""
        self._work = work
        self._inbox = inbox
        self._loop = loop
        self._id = new_id("sess")
        self._config = config
        self._give: Callable[[Event], None] = lambda event: None
        self._items = Items(config, lambda event: self._give(event))
        self._task: Task | None = None
        self._stream: Stream | None = None
        self._waiting: list[bytes] = []  # sound that was not fed
        self._since = 0.0  # when the first of it came
        self._buffered = False  # whether there is sound that was not committed
        self._broken = False  # whether no stream could begin, and the client knows
        self._withdraw: Callable[[], None] = lambda: None  # what ends the stream with the work
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
        while True:
            messages = self._inbox.take(LOOK_SECONDS)
            for came, text in messages:
                self._answer(text, came)
            self._guarded(self._feed)
            heard = time.monotonic() if messages else heard
            if self._work.service.stopping:
                self._guarded(self._end)
                raise stopping()
            if time.monotonic() - heard > IDLE_SECONDS:
                raise RequestError(
                    408, f"nothing came for {IDLE_SECONDS:g} seconds: connect again", code="session_idle"
                )

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
            self._give(error_event(_spelled(error), asked.get("event_id")))

    def _update(self, asked: Mapping[str, Any], came: float) -> None:
        _known(asked, "session")
        config = self._config.updated(asked.get("session"))
        changed = config.sound != self._config.sound
        if changed or (self._stream is None and not self._buffered):
            if self._buffered:
                raise RequestError(
                    400,
                    "session: how sound is heard cannot be changed while there is sound that was not committed: send "
                    f"{BUFFER}.clear or {BUFFER}.commit before",
                    param="session",
                    code="session_started",
                )
            task, stream = self._opened(config)
            self._forget()
            self._use(task, stream)
        self._config = self._items.config = config
        self._give(event("session.updated", session=self._session()))

    def _append(self, asked: Mapping[str, Any], came: float) -> None:
        _known(asked, "audio")
        audio = asked.get("audio")
        if not isinstance(audio, str):
            raise wrong_value("audio", "base64", audio)
        try:
            sound = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise wrong_value("audio", "base64", audio) from None
        if not sound:
            return
        self._since = self._since if self._waiting else came
        self._waiting.append(sound)
        self._buffered = True

    def _commit(self, asked: Mapping[str, Any], came: float) -> None:
        _known(asked)
        if not self._buffered:
            raise RequestError(
                400,
                f"there is no sound to be committed: send {BUFFER}.append before",
                code="input_audio_buffer_commit_empty",
            )
        self._guarded(self._end)

    def _end(self) -> None:
        """Ends what is being said, so that it becomes an item."""
        if not self._buffered:
            return
        self._feed(everything=True)
        if self._stream is None:
            raise RequestError(500, "there is no stream: an earlier error says why", kind="server_error")
        found = self._compute(self._stream.commit)
        self._buffered = False
        self._tell(found, committed=True)
        if self._config.turns is None or not any(one.kind == "final" for one in found):
            self._items.commit()

    def _clear(self, asked: Mapping[str, Any], came: float) -> None:
        _known(asked)
        self._forget()
        self._give(event(f"{BUFFER}.cleared"))

    def _forget(self) -> None:
        """Throws away the sound that was not committed. Another stream begins with the next one."""
        thrown = sum(map(len, self._waiting)) / self._config.format.bytes_per_second
        seconds = 0.0 if self._stream is None else self._stream.seconds
        self._waiting, self._buffered, self._broken, self._stream = [], False, False, None
        self._withdraw()
        self._items.begin_stream(self._items.began + seconds + thrown)

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
                self._use(*self._opened(self._config))
            except Exception:
                self._waiting, self._broken = [], True
                raise
        stream = self._stream
        assert stream is not None
        sound, self._waiting = b"".join(self._waiting), []
        step = round(TURN_SECONDS * per_second)
        for first in range(0, len(sound), step):
            part = sound[first : first + step]
            self._tell(self._compute(partial(stream.feed, self._config.format.chunk(part))))
            self._count("audio", len(part) / per_second)
        self._work.service.metrics.stream_lag.observe(time.monotonic() - self._since)

    def _tell(self, found: Sequence[StreamEvent], *, committed: bool = False) -> None:
        self._items.tell(found, committed=committed)
        for one in found:
            if one.segment is not None:
                self._count("tokens", len(one.segment.tokens))

    def _compute(self, function: Callable[[], Sequence[StreamEvent]]) -> Sequence[StreamEvent]:
        """Returns what a stream finds, in a turn among those who compute."""
        assert self._task is not None
        with self._task.turn():
            began = time.monotonic()
            try:
                return function()
            finally:
                self._count("computing", time.monotonic() - began)

    def _count(self, what: str, amount: float) -> None:
        assert self._task is not None
        getattr(self._work.service.metrics, what).labels(self._task.entry.name).inc(amount)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Does something with sound; where that fails, tells it, and goes on with another stream."""
        try:
            step()
        except Cancelled:
            raise
        except Exception as error:
            answer = _spelled(error)
            if self._broken:  # no stream has begun
                self._give(error_event(answer))
            else:
                self._items.fail(answer)
                self._forget()

    def _opened(self, config: Config) -> tuple[Task, Stream]:
        """Returns a new stream. Raises RequestError and UserError for what cannot be had."""
        name = config.model
        entry = self._work.service.pool.entry(None if name in OPENAI_NAMES and not self._has(name) else name)
        task = self._task if self._task is not None and self._task.entry is entry else self._load(entry)
        options = config.options()
        task.check_texts(options)
        return task, task.model.stream(sample_rate=config.format.rate, **options)

    def _use(self, task: Task, stream: Stream) -> None:
        """Feeds sound to a stream from now on."""
        self._task, self._stream = task, stream
        self._withdraw = self._work.job.on_cancel(stream.cancel)

    def _has(self, name: str) -> bool:
        return any(entry.name == name for entry in self._work.service.pool.entries)

    def _load(self, entry: Entry) -> Task:
        """Returns what computes with a model, which is loaded if need be, and stays loaded until the session ends."""
        model = asyncio.run_coroutine_threadsafe(self._work.model(entry), self._loop).result()
        return Task(self._work, entry, model)

    def _session(self) -> dict[str, object]:
        return {"object": "realtime.transcription_session", "id": self._id, **self._config.json()}


def _known(asked: Mapping[str, Any], *names: str) -> None:
    """Raises RequestError for an event with a field that is not known."""
    Fields(asked["type"], asked, ("type", "event_id", *names))


def _spelled(error: Exception) -> RequestError:
    """Returns the answer to an error, with the names of fields as sessions have them."""
    if isinstance(error, OptionError):
        message = error.spelled(lambda name: OPTION_FIELDS.get(name, name))
        field = message.partition(":")[0]
        return RequestError(
            400, message, param=field if field in OPTION_FIELDS.values() else None, code="invalid_value"
        )
    return answer_to(error, PATH)
