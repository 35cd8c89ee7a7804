"""The choice of the next token inside the graph: Whisper's filters, argmax or sampling, and the probabilities.

The rules of openai/whisper (decoding.py: SuppressBlank, SuppressTokens, ApplyTimestampRules) come in as data: a mask
that is added to the scores, and for each row the range of text and the range of timestamps that may follow. What these
ranges are depends on the last two tokens only, so that the host finds them in a microsecond (runtime/rules.py).
"""

from __future__ import annotations

import math

from max.dtype import DType
from max.graph import DeviceRef, TensorValue, ops

ALLOWED = ("first text", "end of text", "first timestamp", "end of timestamps")  # columns of `allowed`
_LOWEST = -1e30  # in place of -inf, where -inf - -inf would be NaN


def filtered(logits: TensorValue, mask: TensorValue, allowed: TensorValue) -> TensorValue:
    """Float32 [batch, n_vocab]: the scores of the tokens that may follow, -inf for the others.

    logits: float32 [batch, n_vocab]. mask: float32 [n_vocab], 0 or -inf. allowed: int64 [batch, 4], see ALLOWED. All
    tokens below the end of text are text, all from there on are timestamps. If the timestamps together are likelier
    than the likeliest text, it is one of them.
    """
    device = logits.device
    text_from, text_to, stamps_from, stamps_to = (allowed[:, i : i + 1] for i in range(len(ALLOWED)))
    nothing, lowest = (ops.constant(x, DType.float32, device=device) for x in (-math.inf, _LOWEST))
    token = ops.unsqueeze(_ids(int(logits.shape[1]), device), 0)
    text = ops.logical_and(token >= text_from, token < text_to)
    stamps = ops.logical_and(token >= stamps_from, token < stamps_to)
    scores = logits + mask
    text_scores = ops.where(text, scores, nothing)
    stamp_scores = ops.where(stamps, scores, nothing)
    best_text = ops.max(ops.max(text_scores, axis=-1), lowest)
    stamps_win = ops.sum(ops.exp(stamp_scores - best_text), axis=-1) > ops.constant(1, DType.float32, device=device)
    return ops.max(stamp_scores, ops.where(stamps_win, nothing, text_scores))


def sampled(scores: TensorValue, noise: TensorValue) -> tuple[TensorValue, TensorValue]:
    """A token [batch, 1] by filtered scores [batch, n_vocab], and its log-probability [batch, 1].

    noise: float32 [batch, n_vocab], added for the choice alone. Zeros give the best token; temperature times Gumbel
    noise samples from softmax(scores / temperature) (Gumbel, 1954).
    """
    token = ops.argmax(scores + noise, axis=-1)
    best = ops.max(scores, axis=-1)
    total = ops.log(ops.sum(ops.exp(scores - best), axis=-1))
    chosen = ops.unsqueeze(ops.gather_nd(scores, token, batch_dims=1), -1)
    return token, chosen - best - total


def probability(logits: TensorValue, token: TensorValue) -> TensorValue:
    """Float32 [batch, 1]: of one token, an int64 scalar on the host, by a softmax of logits [batch, n_vocab]."""
    best = ops.max(logits, axis=-1)
    one = ops.constant(1, DType.int64, device=DeviceRef.CPU())
    score = logits[:, (slice(token, token + one), 1)]
    return ops.exp(score - best) / ops.sum(ops.exp(logits - best), axis=-1)


def _ids(n_vocab: int, device: DeviceRef) -> TensorValue:
    return ops.range(0, n_vocab, 1, out_dim=n_vocab, dtype=DType.int64, device=device)
