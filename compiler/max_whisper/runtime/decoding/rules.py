"""Which tokens may come next when Whisper writes timestamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from max_whisper.tokens import Tokens

Allowed: TypeAlias = tuple[int, int, int, int]
"""First text, end of text, first timestamp, end of timestamps, as the compiled selection takes them; half open."""

NO_NOTIMESTAMPS = "<|notimestamps|> is never written"
NO_TOKEN = "the vocabulary has no such token"
STAMP_FIRST = "the first token is a timestamp"
MAX_INITIAL = "max_initial_timestamp"
PAIRS = "timestamps come in pairs"
NEVER_BACK = "timestamps do not go back, nor stand still"


@dataclass(frozen=True)
class TimestampRules:
    """openai/whisper's ApplyTimestampRules (decoding.py) as ranges that depend on what was sampled.

    Timestamps come in pairs, except directly before end-of-text, and never go back. The first token is a timestamp, of
    at most `max_initial` steps. Where the timestamps together are likelier than any text, one of them is chosen: that
    is the compiled selection's part.
    """

    tokens: Tokens
    max_initial: int

    @cached_property
    def _text_end(self) -> int:
        return self.tokens.notimestamps  # which itself is never chosen

    @cached_property
    def _end(self) -> int:
        return self.tokens.timestamp_begin + self.tokens.n_timestamps

    def first(self) -> Allowed:
        """Before anything was sampled."""
        begin = self.tokens.timestamp_begin
        return self._text_end, self._text_end, begin, min(begin + self.max_initial + 1, self._end)

    def after(self, sampled: Sequence[int]) -> Allowed:
        """After some tokens, at least one; where the last two are text, the same as before the last."""
        begin, end = self.tokens.timestamp_begin, self._end
        last = next((token for token in reversed(sampled) if token >= begin), begin - 1)
        if sampled[-1] < begin:  # text
            return 0, self._text_end, last + 1, end
        if len(sampled) == 1 or sampled[-2] >= begin:  # a start
            return 0, self._text_end, end, end
        return self.tokens.eot, self._text_end, last, end  # an end

    def forbids(self, token: int, sampled: Sequence[int]) -> str | None:
        """Which of the rules above keeps a token from following some others; None if none does."""
        text_from, text_to, stamps_from, stamps_to = self.after(sampled) if sampled else self.first()
        if text_from <= token < text_to or stamps_from <= token < stamps_to:
            return None
        if token == self.tokens.notimestamps:
            return NO_NOTIMESTAMPS
        if token >= self._end:
            return NO_TOKEN
        if not sampled:
            return STAMP_FIRST if token < self.tokens.timestamp_begin else MAX_INITIAL
        begin = self.tokens.timestamp_begin
        opened = sampled[-1] >= begin and stamps_from == stamps_to  # by the start of a segment, whose text follows
        return PAIRS if token < begin or opened else NEVER_BACK


def everything(n_vocab: int) -> Allowed:
    """Without timestamps there are no ranges; masks alone count."""
    return 0, n_vocab, n_vocab, n_vocab


def mask_of(suppressed: Sequence[int], n_vocab: int) -> NDArray[np.float32]:
    """Float32 [n_vocab] to add to the scores: -inf for tokens that must not be chosen, 0 for the others."""
    mask = np.zeros(n_vocab, np.float32)
    mask[list(suppressed)] = -np.inf
    return mask


def filtered(logits: NDArray[np.float32], mask: NDArray[np.float32], allowed: Allowed) -> NDArray[np.float32]:
    """Float32 [n_vocab]: the scores of the tokens that may follow, -inf for the others.

    The same as the compiled selection (lowering/targets/max_selection.py), for a search that needs all scores.
    logits, mask: float32 [n_vocab].
    """
    text, stamps = slice(allowed[0], allowed[1]), slice(allowed[2], allowed[3])
    masked = logits + mask
    scores = np.full_like(masked, -np.inf)
    scores[stamps] = masked[stamps]
    best = scores[stamps].max(initial=-np.inf)
    together = best if np.isneginf(best) else best + np.log(np.exp(masked[stamps] - best).sum())
    if together <= masked[text].max(initial=-np.inf):
        scores[text] = masked[text]
    return scores
