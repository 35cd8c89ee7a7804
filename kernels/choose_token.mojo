"""The choice of the next token by Whisper's rules, and its log-probability.

The rules of openai/whisper (decoding.py: SuppressBlank, SuppressTokens, ApplyTimestampRules) come in as data. A score
is a logit plus a mask, which is 0 or -inf. For each row there are a range of text tokens and a range of timestamps that
may follow; no other token may. If the timestamps together are more probable than the most probable text token, the
token is a timestamp. Noise is added for the choice alone: zeros give the best token, temperature times Gumbel noise
samples from softmax(score / temperature) (Gumbel, 1954).
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import log

from .numerics import LANES, exp2, load_partial

comptime LOWEST = Float32(-1e30)
"""In place of -inf, because -inf - -inf is NaN."""
comptime LOG2_E = Float32(1.4426950408889634)
comptime N_BOUNDS = 4
"""Columns of `allowed`: first text token, end of text, first timestamp, end of timestamps (tokens.py)."""


@extensibility.register("choose_token")
struct ChooseToken:
    """Takes logits [texts, rows, n_vocab]; returns token and logprob [texts, length], by the last `length` rows.

    Args of `execute`:
        mask: [n_vocab], 0 or -inf.
        allowed: [texts, length, N_BOUNDS].
        noise: [texts, length, n_vocab].
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        token: OutputTensor[dtype=DType.int64, rank=2, ...],
        logprob: OutputTensor[dtype=DType.float32, rank=2, ...],
        logits: InputTensor[dtype=DType.float32, rank=3, ...],
        mask: InputTensor[dtype=DType.float32, rank=1, ...],
        allowed: InputTensor[dtype=DType.int64, rank=3, ...],
        noise: InputTensor[dtype=DType.float32, rank=3, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = logits.dim_size[1]()
        var n_vocab = logits.dim_size[2]()
        var length = allowed.dim_size[1]()
        for i in range(logits.dim_size[0]() * length):
            var row = i // length * rows + rows - length + i % length
            var text, timestamps = tally_allowed(
                logits.unsafe_ptr().unsafe_offset(row * n_vocab),
                mask.unsafe_ptr(),
                noise.unsafe_ptr().unsafe_offset(i * n_vocab),
                allowed.unsafe_ptr().unsafe_offset(i * N_BOUNDS),
                0,
                n_vocab,
            )
            var chosen, score = choose(text, timestamps)
            token.unsafe_ptr().unsafe_store(i, Int64(chosen))
            logprob.unsafe_ptr().unsafe_store(i, score)


@fieldwise_init
struct Tally(Copyable, ImplicitlyCopyable, Movable):
    """What the choice must know of a range of tokens."""

    var best: Float32
    """The largest score."""
    var total: Float32
    """The sum of exp(score - best)."""
    var choice: Float32
    """The largest score with noise."""
    var token: Int
    """The token of that score; the first of several."""
    var score: Float32
    """The score of that token without noise."""

    def __init__(out self):
        """Tallies no tokens."""
        self.best = LOWEST
        self.total = 0
        self.choice = LOWEST
        self.token = 0
        self.score = LOWEST

    def merged(self, later: Tally) -> Tally:
        """Returns the tally of this range and a later one."""
        var best = max(self.best, later.best)
        var total = self.total * exp_of_difference(self.best - best) + later.total * exp_of_difference(
            later.best - best
        )
        if later.choice > self.choice:
            return Tally(best, total, later.choice, later.token, later.score)
        return Tally(best, total, self.choice, self.token, self.score)


@always_inline
def exp_of_difference(x: Float32) -> Float32:
    """Returns e^x of a difference to a maximum, which is 0 or less; 0 below -80."""
    return exp2(SIMD[DType.float32, LANES](x * LOG2_E))[0] if x > -80 else Float32(0)


def tally(
    logits: Pointer[Float32, ...], mask: Pointer[Float32, ...], noise: Pointer[Float32, ...], first: Int, last: Int
) -> Tally:
    """Returns the tally of the tokens from first to last."""
    var result = Tally()
    var best = SIMD[DType.float32, LANES](LOWEST)
    for i in range(first, last, LANES):
        var valid = min(LANES, last - i)
        var scores = load_partial(logits.unsafe_offset(i), valid) + load_partial(mask.unsafe_offset(i), valid)
        if valid < LANES:
            for j in range(valid, LANES):
                scores[j] = LOWEST
        best = max(best, scores)
        var choices = scores + load_partial(noise.unsafe_offset(i), valid)
        var largest = choices.reduce_max()
        if largest > result.choice:
            result.choice = largest
            for j in range(LANES):
                if choices[j] == largest:
                    result.token = i + j
                    result.score = scores[j]
                    break
    result.best = best.reduce_max()
    var total = SIMD[DType.float32, LANES](0)
    for i in range(first, last, LANES):
        var valid = min(LANES, last - i)
        var scores = load_partial(logits.unsafe_offset(i), valid) + load_partial(mask.unsafe_offset(i), valid)
        var powers = exp2((scores - result.best) * LOG2_E)
        for j in range(valid, LANES):
            powers[j] = 0
        total += powers
    result.total = total.reduce_add()
    return result


@always_inline
def allows_any(allowed: Pointer[Int64, ...], first: Int, last: Int) -> Bool:
    """Returns whether any token from first to last is within the bounds of a row."""
    var text = max(first, Int(allowed.unsafe_load(0))) < min(last, Int(allowed.unsafe_load(1)))
    return text or max(first, Int(allowed.unsafe_load(2))) < min(last, Int(allowed.unsafe_load(3)))


def tally_allowed(
    logits: Pointer[Float32, ...],
    mask: Pointer[Float32, ...],
    noise: Pointer[Float32, ...],
    allowed: Pointer[Int64, ...],
    first: Int,
    last: Int,
) -> Tuple[Tally, Tally]:
    """Returns the tallies of the text tokens and of the timestamps that are allowed, among those from first to last."""
    var text_from = max(first, Int(allowed.unsafe_load(0)))
    var text_to = min(last, Int(allowed.unsafe_load(1)))
    var timestamps_from = max(first, Int(allowed.unsafe_load(2)))
    var timestamps_to = min(last, Int(allowed.unsafe_load(3)))
    return (
        tally(logits, mask, noise, text_from, text_to),
        tally(logits, mask, noise, timestamps_from, timestamps_to),
    )


def choose(text: Tally, timestamps: Tally) -> Tuple[Int, Float32]:
    """Returns the next token and its log-probability."""
    var any_timestamp = timestamps.best + log(max(timestamps.total, Float32(1e-30)))
    var chosen = timestamps if any_timestamp > text.best else text.merged(timestamps)
    return chosen.token, chosen.score - chosen.best - log(chosen.total)
