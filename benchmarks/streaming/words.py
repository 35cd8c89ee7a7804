"""Compares the words that a transcriber showed, and when, with those of a recording, and when they were said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import mean
from typing import Any

import jiwer
import numpy as np
from whisper_normalizer.english import EnglishTextNormalizer

PAUSE = 0.7
"""The seconds without a word after which the word before counts as the last one of a phrase."""

NEWEST_WORDS, NEWEST_SECONDS = 60, 20.0
"""What of the text, and of the recording, counts as the newest."""

normalized = EnglishTextNormalizer()


@dataclass(frozen=True)
class Shown:
    """A word that a transcriber showed.

    Attributes:
        word: The word, in lower case and without punctuation.
        at: When it was shown as one that does not change any more, in seconds since the recording began.
    """

    word: str
    at: float


@dataclass(frozen=True)
class Said:
    """A word of a recording, and the seconds at which it begins and ends."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Outcome:
    """What a transcriber showed of one recording.

    Attributes:
        text: All text that stands at the end.
        shown: The words of it, and when each was shown first.
        confirmed: The number of words that were confirmed before their phrase ended.
        revised: The number of these that the final text of their phrase does not have at their place.
        final_delays: The seconds from the end of each phrase, as the transcriber found it, to its final text.
    """

    text: str
    shown: list[Shown]
    confirmed: int
    revised: int
    final_delays: list[float]


def plain(text: str) -> list[str]:
    """Returns the words of a text in lower case, without punctuation."""
    kept = "".join(letter if letter.isalnum() or letter == "'" else " " for letter in text.lower())
    return kept.split()


def outcome(events: Iterable[Mapping[str, Any]]) -> Outcome:
    """Returns what the events of a replay show (workers/replay.py): a final text replaces what its phrase confirmed."""
    texts: list[str] = []
    shown: list[Shown] = []
    phrase: list[Shown] = []
    confirmed = revised = 0
    delays: list[float] = []
    for event in events:
        if event["event"] == "confirmed":
            phrase += [Shown(word, event["at"]) for word in plain(event["text"])]
        elif event["event"] == "final":
            words = plain(event["text"])
            kept = _same([one.word for one in phrase], words)
            confirmed, revised = confirmed + len(phrase), revised + len(phrase) - len(kept)
            places = {there: phrase[here].at for here, there in kept}
            shown += [Shown(word, places.get(i, event["at"])) for i, word in enumerate(words)]
            texts.append(event["text"])
            phrase = []
            if "phrase_end" in event:
                delays.append(event["at"] - event["phrase_end"])
        elif event["event"] == "end":
            return Outcome(event["text"], [*shown, *phrase], confirmed + len(phrase), revised, delays)
    raise ValueError("a replay without an end")


def lags(shown: Sequence[Shown], said: Sequence[Said]) -> tuple[list[float], list[float]]:
    """Returns how late each right word was shown, and each of them that is the last before a pause.

    A word is late by the seconds from its end in the recording. Words that were not said, or not shown, do not count.
    """
    all_lags, at_ends = [], []
    for here, there in _same([one.word for one in shown], [one.word for one in said]):
        lag = shown[here].at - said[there].end
        all_lags.append(lag)
        if there + 1 == len(said) or said[there + 1].start - said[there].end >= PAUSE:
            at_ends.append(lag)
    return all_lags, at_ends


def first_lags(events: Iterable[Mapping[str, Any]], said: Sequence[Said]) -> list[float]:
    """Returns how late each word was shown for the first time, though it might change.

    At each event, what is shown last is compared with what was said last: a word counts when it is in both.
    """
    first: dict[int, float] = {}
    settled: list[str] = []
    confirmed: list[str] = []
    for event in events:
        at, kind = event.get("at", 0.0), event["event"]
        words = plain(event["text"]) if kind in ("confirmed", "hypothesis", "final") else []
        if kind == "confirmed":
            confirmed += words
        elif kind == "final":
            settled, confirmed = (settled + words)[-NEWEST_WORDS:], []
        shown = settled + confirmed + (words if kind == "hypothesis" else [])
        recent = [i for i, word in enumerate(said) if at - NEWEST_SECONDS < word.end < at]
        for _, there in _same(shown[-NEWEST_WORDS:], [said[i].word for i in recent]):
            first.setdefault(recent[there], at)
    return [at - said[i].end for i, at in sorted(first.items())]


def word_errors(texts: Sequence[str], right: Sequence[str]) -> float:
    """Returns the share of wrong words, after Whisper's normalizer of English."""
    rate: float = jiwer.wer([normalized(text) for text in right], [normalized(text) or "-" for text in texts])
    return rate


def summary(values: Sequence[float]) -> dict[str, float]:
    """Returns the mean and the 95th percentile."""
    if not values:
        return {}
    return {"mean": round(mean(values), 3), "p95": round(float(np.percentile(values, 95)), 3), "n": len(values)}


def _same(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the places of words that two texts have in common, in the first and in the second."""
    blocks = SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    return [(block.a + i, block.b + i) for block in blocks for i in range(block.size)]
