"""A phrase: what one speaker says between two pauses, as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.runtime.results import Segment, Word
from max_whisper.runtime.streaming.policies import Policy


@dataclass(frozen=True)
class Context:
    """What the model hears and reads before a phrase.

    Attributes:
        first: The number of the first sample of the window: that of the phrase, or of an earlier one.
        prefix: The tokens of the earlier phrases in the window, behind which the decoder goes on.
        prompt: The tokens of the text before the window.
    """

    first: int
    prefix: list[int]
    prompt: list[int]

    @property
    def offset(self) -> float:
        """When the window begins, in seconds of the stream."""
        return self.first / SAMPLE_RATE


@dataclass
class Phrase:
    """The phrase that is being said.

    Attributes:
        number: Its number, from 0.
        first: The number of its first sample.
        context: What its final text is decoded with, as far as there is room: it depends on what was said, and not on
            when the phrase was listened to.
        heard: What its hypotheses are decoded with.
        policy: Says which words are confirmed.
        language: The code of the language; "" until it is known.
        is_certain: Whether the language was probable enough to be taken for that of the phrases that follow.
        confirmed: The tokens of the confirmed words.
        confirmed_until: When the last of them ended, in seconds of the stream.
        tail: The tokens of the hypothesis that may follow them.
        shown: The text of the last hypothesis that was told.
        ending: What the phrase was when there was a pause in it last; None where there was none.
    """

    number: int
    first: int
    context: Context
    heard: Context
    policy: Policy
    language: str = ""
    is_certain: bool = False
    confirmed: list[int] = field(default_factory=list)
    confirmed_until: float = 0.0
    tail: list[int] = field(default_factory=list)
    shown: str = ""
    ending: Ending | None = None


@dataclass(frozen=True)
class Found:
    """What one more hearing of a phrase found.

    Attributes:
        confirmed: The words that are confirmed from now on.
        hypothesis: The words that may follow them.
    """

    confirmed: list[Word]
    hypothesis: list[Word]


@dataclass(frozen=True)
class Ending:
    """A whole phrase.

    Attributes:
        first: The number of its first sample.
        last: The number of the sample behind its last one.
        window: The number of the first sample that the model heard.
        segment: Its text; None where nothing was said.
        language: The code of the language.
        is_certain: Whether the language was probable enough to be taken for that of the phrases that follow.
    """

    first: int
    last: int
    window: int
    segment: Segment | None
    language: str
    is_certain: bool
