"""Why the decoder did not take the token with the largest logit: which rule forbade it, and what was taken instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from max_whisper.runtime.decoding.options import TIME_PRECISION
from max_whisper.runtime.decoding.rules import TimestampRules, filtered, mask_of
from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.results import Override

BLANK = "suppress_blank: the first token is no blank and no end"
SUPPRESSED = "suppress_tokens"
TOGETHER = "all timestamps together are likelier than each text token"

# Not rules: the token was allowed, and something else was taken all the same.
SEARCH = "allowed: the beam search took another"
SAMPLE = "allowed: the sample was another"
TIE = "allowed: another was as likely, but for rounding"

SHOWN = 3  # examples of one reason


def overrides(
    logits: NDArray[np.float32],
    tokens: Sequence[int],
    *,
    first: Sequence[int],
    always: Sequence[int],
    rules: TimestampRules | None,
    otherwise: str,
) -> list[Override]:
    """The steps of one window at which a rule, or the choice among what the rules leave, passed over the likeliest.

    logits: float32 [steps, n_vocab], raw ones, from which each token was chosen. tokens: the chosen ones, [steps].
    first, always: ids that are suppressed at the first step, and at every one. rules: of timestamps, if they are
    written. otherwise: the reason where no rule forbids the argmax: SEARCH, SAMPLE or TIE.
    """
    found = []
    for step, (row, token) in enumerate(zip(logits, tokens, strict=True)):
        argmax = int(row.argmax())
        if argmax != token:
            suppressed = {BLANK: first if step == 0 else (), SUPPRESSED: always}
            found.append(Override(step, argmax, token, _rule(row, tokens[:step], suppressed, rules) or otherwise))
    return found


def _rule(
    logits: NDArray[np.float32],
    sampled: Sequence[int],
    suppressed: dict[str, Sequence[int]],
    rules: TimestampRules | None,
) -> str | None:
    """What forbids the token with the largest of some logits [n_vocab] after some tokens; None if it is allowed."""
    token = int(logits.argmax())
    for name, ids in suppressed.items():
        if token in ids:
            return name
    if rules is None:
        return None
    if (reason := rules.forbids(token, sampled)) is not None:
        return reason
    mask = mask_of([i for ids in suppressed.values() for i in ids], len(logits))
    allowed = rules.after(sampled) if sampled else rules.first()
    return TOGETHER if np.isneginf(filtered(logits, mask, allowed)[token]) else None


def summary(found: Sequence[Override], tokenizer: Tokenizer) -> list[str]:
    """One line for each reason, the most frequent first: how often, and the first examples."""
    reasons: dict[str, list[Override]] = {}
    for one in found:
        reasons.setdefault(one.reason, []).append(one)
    lines = []
    for reason, cases in sorted(reasons.items(), key=lambda item: -len(item[1])):
        examples = [f"token {c.step} {shown(c.chosen, tokenizer)}, not {shown(c.argmax, tokenizer)}" for c in cases]
        more = [f"and {len(cases) - SHOWN} more"] if len(cases) > SHOWN else []
        lines.append(f"{len(cases)} x {reason}: {'; '.join(examples[:SHOWN] + more)}")
    return lines


def shown(token: int, tokenizer: Tokenizer) -> str:
    """A token as a person reads it: text in quotes, a timestamp in seconds; of other special tokens the id alone."""
    begin = tokenizer.tokens.timestamp_begin
    if token >= begin:
        return f"<{(token - begin) * TIME_PRECISION:.2f}>"
    if token == tokenizer.tokens.eot:
        return "end of text"
    return f"special token {token}" if token > tokenizer.tokens.eot else repr(tokenizer.decode([token]))
