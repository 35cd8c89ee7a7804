"""Policies: which words of a hypothesis are confirmed, because more sound will hardly change them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from max_whisper.runtime.transcription.words import Timing

IMPROBABLE = 0.6
"""The mean probability of its tokens below which a word waits for the next hypothesis."""

LISTENING_SECONDS = 2.5
"""The sound that must be heard before a word is confirmed, that of earlier phrases included: without it, models often
mistake the first words."""

PolicyName = Literal["alignatt", "local_agreement"]


class Policy(Protocol):
    """Says how many words of the hypotheses of one phrase are confirmed."""

    def confirmed(self, words: Sequence[Timing], heard: float) -> int:
        """Returns how many of the words can be confirmed.

        words: those of the newest hypothesis that are not confirmed yet. heard: the seconds
        of the window so far, the phrases before this one included.
        """


class AlignAtt:
    """Confirms the words up to the first that attends to the newest sound (Papi, Turchi, Negri: "AlignAtt", 2023).

    What is said there may be half a word. An improbable word waits as well, until two hypotheses in a row have it.
    """

    def __init__(self, hold_back: float) -> None:
        """hold_back: the seconds of the newest sound."""
        self._hold_back = hold_back
        self._before: list[list[int]] = []  # the tokens of the words of the hypothesis before

    def confirmed(self, words: Sequence[Timing], heard: float) -> int:
        """Returns how many of the words attend to older sound alone, and are probable."""
        certain, agreed = heard - self._hold_back, common_words(words, self._before)
        if heard < LISTENING_SECONDS:
            certain = -1.0
        count = next(
            (
                i
                for i, word in enumerate(words)
                if word.attended > certain or (i >= agreed and word.probability < IMPROBABLE)
            ),
            len(words),
        )
        self._before = [word.tokens for word in words[count:]]
        return count


class LocalAgreement:
    """Confirms the words that two hypotheses in a row begin with (Liu, Spanakis, Niehues: "Low-latency …", 2020)."""

    def __init__(self) -> None:
        self._before: list[list[int]] = []  # the tokens of the words of the hypothesis before

    def confirmed(self, words: Sequence[Timing], heard: float) -> int:
        """Returns how many of the words the hypothesis before has, too."""
        count = common_words(words, self._before)
        self._before = [word.tokens for word in words[count:]]
        return count


def common_words(words: Sequence[Timing], before: Sequence[list[int]]) -> int:
    """Returns with how many words a hypothesis begins that the one before had, too. before: the tokens of its words."""
    both = [*zip(words, before, strict=False)]
    return next((i for i, (word, tokens) in enumerate(both) if word.tokens != tokens), len(both))


def policy_of(name: PolicyName, hold_back: float) -> Policy:
    """Returns a policy for one phrase."""
    return AlignAtt(hold_back) if name == "alignatt" else LocalAgreement()
