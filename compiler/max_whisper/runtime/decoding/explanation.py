"""Explains why the decoder did not choose the token with the largest logit: which rule kept it from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from max_whisper.runtime.decoding.rule import Floats, History, LogitRule
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.results import Override
from max_whisper.tokens import TIME_PRECISION

# Reasons that are no rules: after all rules the token still had the largest logit, but another was chosen.
SEARCH = "allowed: the beam search took another"
SAMPLE = "allowed: the sample was another"
TIE = "allowed: another was as probable, but for rounding"

SHOWN = 3
"""The number of examples that are shown of a reason."""


def overrides(
    logits: Floats,
    tokens: Sequence[int],
    *,
    rules: Sequence[LogitRule],
    history: History,
    otherwise: str,
) -> list[Override]:
    """Returns the steps of one window at which the token with the largest logit was not chosen, and why.

    logits: float32 [steps, n_vocab], before any rule. tokens: the token that was chosen at each step. rules: the active
    rules in the order in which they were applied. history: that of the window before its first token. otherwise: the
    reason for steps at which no rule kept the argmax token from being chosen: SEARCH, SAMPLE or TIE.
    """
    found = []
    for step, (row, token) in enumerate(zip(logits, tokens, strict=True)):
        argmax = int(row.argmax())
        if argmax != token:
            reason = _reason(row, rules, replace(history, sampled=tokens[:step]))
            found.append(Override(step, argmax, token, reason or otherwise))
    return found


def _reason(logits: Floats, rules: Sequence[LogitRule], history: History) -> str | None:
    """Returns why the argmax token of logits [n_vocab] is not the argmax after all rules; None if it is.

    The reason is the first rule that masks the token, or if none does, the one after which another token was ahead.
    """
    token = int(logits.argmax())
    scores = logits.copy()
    cause: LogitRule | None = None
    for rule in rules:
        rule.apply(scores, history)
        if scores[token] == -np.inf:
            cause = rule
            break
        if scores.argmax() == token:
            cause = None
        elif cause is None:
            cause = rule
    if cause is None:
        return None
    detail = cause.reason(token, history)
    return f"{cause.name}: {detail}" if detail else cause.name


def summary(found: Sequence[Override], tokenizer: Tokenizer) -> list[str]:
    """Returns a line for each reason, the most frequent first, with the number of its steps and the first examples."""
    reasons: dict[str, list[Override]] = {}
    for override in found:
        reasons.setdefault(override.reason, []).append(override)
    lines = []
    for reason, cases in sorted(reasons.items(), key=lambda item: -len(item[1])):
        examples = [f"token {c.step} {shown(c.chosen, tokenizer)}, not {shown(c.argmax, tokenizer)}" for c in cases]
        more = [f"and {len(cases) - SHOWN} more"] if len(cases) > SHOWN else []
        lines.append(f"{len(cases)} x {reason}: {'; '.join(examples[:SHOWN] + more)}")
    return lines


def shown(token: int, tokenizer: Tokenizer) -> str:
    """Returns a token as a person reads it: text in quotes, a timestamp in seconds, "end of text", or a special id."""
    begin = tokenizer.tokens.timestamp_begin
    if token >= begin:
        return f"<{(token - begin) * TIME_PRECISION:.2f}>"
    if token == tokenizer.tokens.eot:
        return "end of text"
    return f"special token {token}" if token > tokenizer.tokens.eot else repr(tokenizer.decode([token]))
