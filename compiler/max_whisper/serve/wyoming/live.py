"""Transcribes sound while it comes, phrase by phrase."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from max_whisper.runtime.streaming.events import StreamEvent
from max_whisper.runtime.streaming.options import StreamKeywords
from max_whisper.serve.live.fed_stream import FED_SECONDS, open_stream
from max_whisper.serve.live.formats import PCM, SoundFormat
from max_whisper.serve.live.inbox import Inbox
from max_whisper.serve.transcribing import Task
from max_whisper.serve.wyoming.answer import Answer, Give
from max_whisper.serve.wyoming.fields import Asked

SILENCE_MS = 500
"""The pause that ends a phrase, as in sessions of /v1/realtime: at a shorter one, sentences are cut in two. Its length
makes no text later, as that of a phrase is computed when the pause begins."""
STEP_SECONDS = 10.0
"""The sound after which a phrase that goes on is heard again. This is as seldom as can be: nobody is told what is
found, and to hear it twice a second took twice the computing in all (base, int8)."""
END = b""
"""The sound that says that no more comes."""


def transcribe_live(task: Task, rate: int, asked: Asked, inbox: Inbox[bytes], give: Give) -> None:
    """Gives the events of an answer, a chunk for each phrase once it has ended; runs in the request's thread.

    Args:
        task: What it computes with.
        rate: The samples of a second of the sound, int16 with one channel.
        asked: What the client asks for.
        inbox: The sound as it comes, with END behind it.
        give: Takes each event.
    """
    format = SoundFormat(PCM, rate)
    options: StreamKeywords = {
        "step": STEP_SECONDS,
        "vad_min_silence_duration_ms": SILENCE_MS,
        "language": asked.language,
        "hotwords": asked.hotwords(task.model),
    }
    stream, phrases = open_stream(task, format, options), _Phrases(Answer(give))
    try:
        for came, sound in _portions(inbox, round(FED_SECONDS * format.bytes_per_second)):
            for found in stream.feed(sound, came):
                phrases.tell(found)
        phrases.tell(stream.finish())
    finally:
        stream.close()
    phrases.end()


class _Phrases:
    """The phrases that have ended. Words before that may still change, which this protocol cannot tell."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._text = ""
        self._language: str | None = None

    def tell(self, found: Sequence[StreamEvent]) -> None:
        """Gives the text of those that have ended; the spaces behind it come with the next one."""
        for one in found:
            if one.kind == "final" and one.text:
                self._text += one.text
                self._language = one.language or None
                self._answer.add(self._text.strip()[len(self._answer.text) :], self._language)

    def end(self) -> None:
        self._answer.end(self._answer.text, self._language)


def _portions(inbox: Inbox[bytes], least: int) -> Iterator[tuple[float, bytes]]:
    """Yields all sound that has come, at least so many bytes unless it ends, behind the time when it began to come."""
    waiting: list[tuple[float, bytes]] = []
    has_ended = False
    while not has_ended:
        waiting += inbox.take()
        has_ended = waiting[-1][1] == END
        if has_ended or sum(len(piece) for _, piece in waiting) >= least:
            yield waiting[0][0], b"".join(piece for _, piece in waiting)
            waiting = []
