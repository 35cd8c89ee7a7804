"""The choice of the next token by MAX's ops: Whisper's rules, argmax or sampling, and probabilities.

The rules of openai/whisper (decoding.py: SuppressBlank, SuppressTokens, ApplyTimestampRules) come in as data: a mask
that is added to the scores, and for each row the range of text and the range of timestamps that may follow. These
ranges depend on the tokens so far alone, so that the host computes them in a microsecond
(runtime/decoding/rules/timestamps.py).
"""

from __future__ import annotations

import math

from max.dtype import DType
from max.graph import DeviceRef, TensorValue, ops

from max_whisper.lowering.backends.emission import Context, scalar
from max_whisper.tokens import N_BOUNDS

_LOWEST = -1e30  # in place of -inf, where -inf - -inf would be NaN


def choose_token(
    context: Context, logits: TensorValue, mask: TensorValue, allowed: TensorValue, noise: TensorValue
) -> list[TensorValue]:
    """Returns the next token, int64 [batch, 1], and its log-probability, [batch, 1], by the last row of logits.

    logits: float32 [batch, length, n_vocab]. mask, allowed [batch, 1, N_BOUNDS]: see `filtered`. noise [batch, 1,
    n_vocab]: see `sampled`.
    """
    return [*sampled(filtered(logits[:, -1, :], mask, ops.squeeze(allowed, 1)), ops.squeeze(noise, 1))]


def token_probability(context: Context, logits: TensorValue, token: TensorValue) -> TensorValue:
    """Returns the probability [batch, 1] of one token, an int64 scalar on the host, by the first row of logits."""
    first = logits[:, 0, :]
    best = ops.max(first, axis=-1)
    score = first[:, (slice(token, token + scalar(1)), 1)]
    return ops.exp(score - best) / ops.sum(ops.exp(first - best), axis=-1)


def filtered(logits: TensorValue, mask: TensorValue, allowed: TensorValue) -> TensorValue:
    """Returns float32 [batch, n_vocab]: the scores of the tokens that may follow, -inf for the others.

    logits: float32 [batch, n_vocab]. mask: float32 [n_vocab], 0 or -inf. allowed: int64 [batch, N_BOUNDS]. All tokens
    below the end of text are text, all from there on are timestamps. If the timestamps together are more probable than
    the most probable text, the token is one of them.
    """
    device = logits.device
    text_from, text_to, timestamps_from, timestamps_to = (allowed[:, i : i + 1] for i in range(N_BOUNDS))
    nothing, lowest = (ops.constant(x, DType.float32, device=device) for x in (-math.inf, _LOWEST))
    token = ops.unsqueeze(_ids(int(logits.shape[1]), device), 0)
    text = ops.logical_and(token >= text_from, token < text_to)
    timestamps = ops.logical_and(token >= timestamps_from, token < timestamps_to)
    scores = logits + mask
    text_scores = ops.where(text, scores, nothing)
    timestamp_scores = ops.where(timestamps, scores, nothing)
    best_text = ops.max(ops.max(text_scores, axis=-1), lowest)
    sums = ops.sum(ops.exp(timestamp_scores - best_text), axis=-1)
    timestamps_win = sums > ops.constant(1, DType.float32, device=device)
    return ops.max(timestamp_scores, ops.where(timestamps_win, nothing, text_scores))


def sampled(scores: TensorValue, noise: TensorValue) -> tuple[TensorValue, TensorValue]:
    """Returns a token [batch, 1] by filtered scores [batch, n_vocab], and its log-probability [batch, 1].

    noise: float32 [batch, n_vocab], added for the choice alone. Zeros give the best token; temperature times Gumbel
    noise samples from softmax(scores / temperature) (Gumbel, 1954).
    """
    token = ops.argmax(scores + noise, axis=-1)
    best = ops.max(scores, axis=-1)
    total = ops.log(ops.sum(ops.exp(scores - best), axis=-1))
    chosen = ops.unsqueeze(ops.gather_nd(scores, token, batch_dims=1), -1)
    return token, chosen - best - total


def _ids(n_vocab: int, device: DeviceRef) -> TensorValue:
    return ops.range(0, n_vocab, 1, out_dim=n_vocab, dtype=DType.int64, device=device)
