"""Policies: which words of a hypothesis are confirmed, because more sound will hardly change them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from max_whisper.runtime.transcription.words import Timing

PolicyName = Literal["alignatt", "local_agreement"]


class Policy(Protocol):
    """Says how many words of the hypotheses of one phrase are confirmed."""

    def confirmed(self, words: Sequence[Timing], heard: float) -> int:
        """Returns how many of the words can be confirmed.

        words: those of the newest hypothesis that are not confirmed yet. heard: the seconds of the phrase so far.
        """


class AlignAtt:
    """Confirms the words up to the first that attends to the newest sound (Papi, Turchi, Negri: "AlignAtt", 2023).

    What is said there may be half a word.
    """

    def __init__(self, hold_back: float) -> None:
        """hold_back: the seconds of the newest sound."""
        self._hold_back = hold_back

    def confirmed(self, words: Sequence[Timing], heard: float) -> int:
        """Returns how many of the words attend to older sound alone."""
        certain = heard - self._hold_back
        return next((i for i, word in enumerate(words) if word.attended > certain), len(words))


class LocalAgreement:
    """Confirms the words that two hypotheses in a row begin with (Liu, Spanakis, Niehues: "Low-latency …", 2020)."""

    def __init__(self) -> None:
        self._before: list[list[int]] = []  # the tokens of the words of the hypothesis before

    def confirmed(self, words: Sequence[Timing], heard: float) -> int:
        """Returns how many of the words the hypothesis before has, too."""
        tokens = [word.tokens for word in words]
        both = [*zip(tokens, self._before, strict=False)]
        count = next((i for i, (word, before) in enumerate(both) if word != before), len(both))
        self._before = tokens[count:]
        return count


def policy_of(name: PolicyName, hold_back: float) -> Policy:
    """Returns a policy for one phrase."""
    return AlignAtt(hold_back) if name == "alignatt" else LocalAgreement()
