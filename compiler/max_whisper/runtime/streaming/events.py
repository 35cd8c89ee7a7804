"""What a stream tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from max_whisper.runtime.results import Segment, Word

EventKind = Literal["speech_started", "confirmed", "hypothesis", "speech_stopped", "final"]


@dataclass(frozen=True)
class StreamEvent:
    """Something that a stream heard or found out.

    A phrase begins with "speech_started". Then "confirmed" adds words to its text, and "hypothesis" replaces what may
    follow them. It ends with "speech_stopped" and "final", whose text takes the place of all that was confirmed.

    Attributes:
        kind: What happened.
        phrase: The number of the phrase, from 0.
        start: When the phrase began, or for "confirmed" and "hypothesis" the first of the words, in seconds of the
            stream.
        end: When it ended, or the last of the words did; for "speech_started" the same as `start`.
        text: The words, with the space before each.
        words: The words with their times. A word that was confirmed may be followed by its punctuation alone.
        segment: The whole phrase, where the kind is "final"; None for others, and where nothing was said.
        language: The code of the language; "" where it is not known yet.
    """

    kind: EventKind
    phrase: int
    start: float
    end: float
    text: str = ""
    words: list[Word] = field(default_factory=list)
    segment: Segment | None = None
    language: str = ""
