"""Computes the log-probability of each token of a text that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from max_whisper.runtime.decoding.rule import Floats, History, LogitRule


def chosen_logprobs(
    logits: Floats, tokens: Sequence[int], *, rules: Sequence[LogitRule], history: History
) -> list[float]:
    """Returns the log-probability of each token of one window, after the rules, as the decoder has it.

    logits: float32 [steps, n_vocab], before any rule. tokens: the token that was chosen at each step. rules: the active
    rules. history: that of the window before its first token.
    """
    logprobs = []
    for step, (row, token) in enumerate(zip(logits, tokens, strict=True)):
        scores = row.copy()
        for rule in rules:
            rule.apply(scores, replace(history, sampled=tokens[:step]))
        best = scores.max()
        logprobs.append(float(scores[token] - best - np.log(np.exp(scores - best).sum())))
    return logprobs
