"""Tells what a stream finds as the events of a session: each phrase, or each commit, is an item of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from max_whisper.runtime.streaming.events import StreamEvent
from max_whisper.serve.errors import RequestError
from max_whisper.serve.realtime.config import HYPOTHESIS, Config
from max_whisper.serve.realtime.events import TRANSCRIPTION, Event, event, item_event, new_id


@dataclass
class Item:
    """What is being said.

    Attributes:
        id: Its name.
        finals: The text of its phrases that have ended.
        confirmed: The words of the phrase that is being said that are sure.
        sent: The deltas so far, joined.
        seconds: The duration of its phrases that have ended.
        language: The code of its language; "" where it is not known.
    """

    id: str
    finals: str = ""
    confirmed: str = ""
    sent: str = ""
    seconds: float = 0.0
    language: str = ""

    def confirm(self, words: str) -> str:
        """Adds words that are sure, and returns the next delta."""
        self.confirmed += words
        text = (self.finals + self.confirmed).lstrip()
        delta = text[len(self.sent) :] if text.startswith(self.sent) else words  # an earlier phrase was revised
        self.sent += delta
        return delta

    def end_phrase(self, text: str, seconds: float, language: str) -> None:
        """Takes the text of a whole phrase, in the place of what was sure."""
        self.finals += text
        self.confirmed = ""
        self.seconds += seconds
        self.language = language or self.language

    @property
    def rest(self) -> str:
        """The last delta; empty where there is none, or the text has become another one than the deltas told."""
        text = self.finals.strip()
        return text[len(self.sent) :] if text.startswith(self.sent) else ""


class Items:
    """The conversation of a session, so far.

    Attributes:
        config: What the session is set to.
        began: The seconds of the session's sound before the stream that is being told of.
    """

    def __init__(self, config: Config, give: Callable[[Event], None]) -> None:
        """Makes an empty one. give: takes each event."""
        self.config = config
        self.began = 0.0
        self._give = give
        self._item: Item | None = None
        self._previous: str | None = None
        self._ended = 0.0  # when the last phrase ended, in seconds of the stream

    def begin_stream(self, began: float) -> None:
        """Forgets what was not committed. began: the seconds of the session's sound so far."""
        self.began, self._item, self._ended = began, None, 0.0

    def tell(self, found: Sequence[StreamEvent], *, committed: bool = False) -> None:
        """Tells what a stream has found. committed: whether the client has ended the phrase."""
        for one in found:
            self._tell(one, committed)

    def _tell(self, found: StreamEvent, committed: bool) -> None:
        turns = self.config.turns
        if self._item is None:
            self._item = Item(new_id("item"))
        item = self._item
        if found.kind == "speech_started" and turns is not None:
            begin = max(found.start - turns.prefix_padding_ms / 1000, self._ended)
            self._give(_speech("started", item, audio_start_ms=self._ms(begin)))
        elif found.kind == "confirmed":
            self._delta(item, item.confirm(found.text))
        elif found.kind == "hypothesis" and HYPOTHESIS in self.config.include:
            self._give(event(HYPOTHESIS, item_id=item.id, content_index=0, text=found.text))
        elif found.kind == "speech_stopped" and turns is not None and not committed:
            self._give(_speech("stopped", item, audio_end_ms=self._ms(found.end)))
        elif found.kind == "final":
            item.end_phrase(found.text, found.end - found.start, found.language)
            self._ended = found.end
            if turns is not None:
                self.commit()

    def commit(self) -> None:
        """Tells that an item is complete, and its text. It is an empty one where nothing was said."""
        item = self._taken()
        self._delta(item, item.rest)
        usage = {"type": "duration", "seconds": round(item.seconds, 3)}
        languages = {"languages": [{"code": item.language}]} if item.language else {}
        self._give(
            event(
                f"{TRANSCRIPTION}.completed",
                item_id=item.id,
                content_index=0,
                transcript=item.finals.strip(),
                usage=usage,
                **languages,
            )
        )

    def fail(self, error: RequestError) -> None:
        """Tells that there will be no text of what is being said."""
        item = self._taken()
        told = error.body()["error"]
        self._give(event(f"{TRANSCRIPTION}.failed", item_id=item.id, content_index=0, error=told))

    def _taken(self) -> Item:
        """Tells that what is being said is an item of the conversation now, and returns it."""
        item, previous = self._item or Item(new_id("item")), self._previous
        self._item, self._previous = None, item.id
        self._give(event("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous))
        self._give(item_event("conversation.item.added", item.id, previous))
        self._give(item_event("conversation.item.done", item.id, previous))
        return item

    def _delta(self, item: Item, text: str) -> None:
        if text:
            self._give(event(f"{TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=text))

    def _ms(self, seconds: float) -> int:
        return round(1000 * (self.began + seconds))


def _speech(what: str, item: Item, **times: int) -> Event:
    return event(f"input_audio_buffer.speech_{what}", item_id=item.id, **times)
