"""The choice of the next token by Whisper's rules, and its log-probability.

The rules of openai/whisper (decoding.py: SuppressBlank, SuppressTokens, ApplyTimestampRules) come in as data. A score is a
logit plus a mask, 0 or -inf. Of each row there are a range of text tokens and a range of timestamps that may follow; all
else may not. If the timestamps together are likelier than the likeliest text, it is one of them. Noise is added for
the choice alone: zeros give the best token, temperature times Gumbel noise samples from softmax(score / temperature)
(Gumbel, 1954).

`choose_next_token` computes the logits too, in the caches of the cores that then read them; they are never in memory.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.algorithm import sync_parallelize
from max.gpu.host import DeviceContext
from std.math import ceildiv, log
from std.memory.alloc import unsafe_alloc

from .cores import tasks_of
from .numerics import WIDTH, exp2, load_some, normalise
from .skinny_linear import multiply_range

comptime LOWEST = Float32(-1e30)
"""In place of -inf, where -inf less -inf would be no number."""
comptime LOG2_E = Float32(1.4426950408889634)
comptime RANGE = 512
"""Tokens whose tally is taken together, however many tasks there are: sums depend on where they begin."""
comptime COLUMNS = 4
"""Of `allowed`: first text, end of text, first timestamp, end of timestamps."""


@fieldwise_init
struct Tally(Copyable, ImplicitlyCopyable, Movable):
    """What must be known of a range of tokens."""

    var best: Float32
    """The largest score."""
    var total: Float32
    """The sum of exp(score - best)."""
    var choice: Float32
    """The largest score with noise."""
    var token: Int
    """Whose choice it is, the first of equal ones."""
    var score: Float32
    """That token's score."""

    def __init__(out self):
        self.best = LOWEST
        self.total = 0
        self.choice = LOWEST
        self.token = 0
        self.score = LOWEST

    def joined(self, other: Tally) -> Tally:
        """Gives that of this range and a later one."""
        var best = max(self.best, other.best)
        var total = self.total * power(self.best - best) + other.total * power(other.best - best)
        if other.choice > self.choice:
            return Tally(best, total, other.choice, other.token, other.score)
        return Tally(best, total, self.choice, self.token, self.score)


@always_inline
def power(x: Float32) -> Float32:
    """Gives e to the power of x, which is 0 or less; 0 where that is next to nothing."""
    return exp2(SIMD[DType.float32, WIDTH](x * LOG2_E))[0] if x > -80 else Float32(0)


def tally(
    logits: Pointer[Float32, ...], mask: Pointer[Float32, ...], noise: Pointer[Float32, ...], first: Int, last: Int
) -> Tally:
    """Gives that of the tokens from first to last."""
    var result = Tally()
    var best = SIMD[DType.float32, WIDTH](LOWEST)
    for i in range(first, last, WIDTH):
        var valid = min(WIDTH, last - i)
        var scores = load_some(logits.unsafe_offset(i), valid) + load_some(mask.unsafe_offset(i), valid)
        if valid < WIDTH:
            for j in range(valid, WIDTH):
                scores[j] = LOWEST
        best = max(best, scores)
        var choices = scores + load_some(noise.unsafe_offset(i), valid)
        var largest = choices.reduce_max()
        if largest > result.choice:
            result.choice = largest
            for j in range(WIDTH):
                if choices[j] == largest:
                    result.token = i + j
                    result.score = scores[j]
                    break
    result.best = best.reduce_max()
    var total = SIMD[DType.float32, WIDTH](0)
    for i in range(first, last, WIDTH):
        var valid = min(WIDTH, last - i)
        var scores = load_some(logits.unsafe_offset(i), valid) + load_some(mask.unsafe_offset(i), valid)
        var shares = exp2((scores - result.best) * LOG2_E)
        for j in range(valid, WIDTH):
            shares[j] = 0
        total += shares
    result.total = total.reduce_add()
    return result


def within(
    logits: Pointer[Float32, ...],
    mask: Pointer[Float32, ...],
    noise: Pointer[Float32, ...],
    allowed: Pointer[Int64, ...],
    first: Int,
    last: Int,
) -> Tuple[Tally, Tally]:
    """Gives the tallies of text and of timestamps among the tokens from first to last."""
    var text_from = max(first, Int(allowed.unsafe_load(0)))
    var text_to = min(last, Int(allowed.unsafe_load(1)))
    var stamps_from = max(first, Int(allowed.unsafe_load(2)))
    var stamps_to = min(last, Int(allowed.unsafe_load(3)))
    return tally(logits, mask, noise, text_from, text_to), tally(logits, mask, noise, stamps_from, stamps_to)


def decide(text: Tally, stamps: Tally) -> Tuple[Int, Float32]:
    """Gives the token and its log-probability."""
    var whole = stamps.best + log(max(stamps.total, Float32(1e-30)))
    var chosen = stamps if whole > text.best else text.joined(stamps)
    return chosen.token, chosen.score - chosen.best - log(chosen.total)


@extensibility.register("choose_token")
struct ChooseToken:
    """Takes logits [batch, rows, n_vocab], of which the last row counts, mask [n_vocab], allowed [batch, 4], noise.

    Noise is [batch, n_vocab]. Gives the token and its log-probability, [batch, 1].
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        token: OutputTensor[dtype=DType.int64, rank=2, ...],
        logprob: OutputTensor[dtype=DType.float32, rank=2, ...],
        logits: InputTensor[dtype=DType.float32, rank=3, ...],
        mask: InputTensor[dtype=DType.float32, rank=1, ...],
        allowed: InputTensor[dtype=DType.int64, rank=2, ...],
        noise: InputTensor[dtype=DType.float32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        var rows = logits.dim_size[1]()
        var n_vocab = logits.dim_size[2]()
        for b in range(logits.dim_size[0]()):
            var text, stamps = within(
                logits.unsafe_ptr().unsafe_offset((b * rows + rows - 1) * n_vocab),
                mask.unsafe_ptr(),
                noise.unsafe_ptr().unsafe_offset(b * n_vocab),
                allowed.unsafe_ptr().unsafe_offset(b * COLUMNS),
                0,
                n_vocab,
            )
            var chosen, score = decide(text, stamps)
            token.unsafe_ptr().unsafe_store(b, Int64(chosen))
            logprob.unsafe_ptr().unsafe_store(b, score)


@extensibility.register("choose_next_token")
struct ChooseNextToken:
    """As `choose_token`, of x [batch, 1, in] and the table of an embedding, [n_vocab, in].

    x is normalised first. scales: of an int8 table, as in `skinny_linear`.
    """

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        token: OutputTensor[dtype=DType.int64, rank=2, ...],
        logprob: OutputTensor[dtype=DType.float32, rank=2, ...],
        x: InputTensor[dtype=DType.float32, rank=3, ...],
        table: InputTensor[dtype=dtype, rank=2, ...],
        scales: InputTensor[dtype=DType.float32, rank=2, ...],
        norm_weight: InputTensor[dtype=DType.float32, rank=1, ...],
        norm_bias: InputTensor[dtype=DType.float32, rank=1, ...],
        eps: Float32,
        mask: InputTensor[dtype=DType.float32, rank=1, ...],
        allowed: InputTensor[dtype=DType.int64, rank=2, ...],
        noise: InputTensor[dtype=DType.float32, rank=2, ...],
        ctx: DeviceContext,
    ) raises:
        var batch = x.dim_size[0]()
        var n_vocab = table.dim_size[0]()
        var n_in = table.dim_size[1]()
        var ranges = ceildiv(n_vocab, RANGE)
        var tasks = tasks_of(ranges)
        var normed = unsafe_alloc[Float32](batch * n_in)
        var logits = unsafe_alloc[Float32](batch * n_vocab)
        var tallies = unsafe_alloc[Tally](2 * batch * ranges)
        var table_at = table.unsafe_ptr()
        var scales_at = scales.unsafe_ptr()
        var mask_at = mask.unsafe_ptr()
        var noise_at = noise.unsafe_ptr()
        var allowed_at = allowed.unsafe_ptr()
        for b in range(batch):
            normalise(
                x.unsafe_ptr().unsafe_offset(b * n_in),
                norm_weight.unsafe_ptr(),
                norm_bias.unsafe_ptr(),
                eps,
                normed.unsafe_offset(b * n_in),
                n_in,
            )

        @always_inline
        def tally(i: Int) {imm}:
            """Takes one of the ranges, whose products are there."""
            var first = i * RANGE
            var last = min(n_vocab, first + RANGE)
            for b in range(batch):
                var row = logits.unsafe_offset(b * n_vocab)
                comptime if dtype == DType.int8:
                    for j in range(first, last):
                        row.unsafe_store(j, row.unsafe_load(j) * scales_at.unsafe_load(j))
                var text, stamps = within(
                    row,
                    mask_at,
                    noise_at.unsafe_offset(b * n_vocab),
                    allowed_at.unsafe_offset(b * COLUMNS),
                    first,
                    last,
                )
                tallies[unsafe_offset=2 * (i * batch + b)] = text
                tallies[unsafe_offset=2 * (i * batch + b) + 1] = stamps

        def task(i: Int) raises {imm}:
            var first = i * ranges // tasks
            var last = (i + 1) * ranges // tasks
            # All of a task's products at once: the table is read in one stream.
            multiply_range[dtype](
                normed, table_at, logits, batch, n_in, n_vocab, first * RANGE, min(n_vocab, last * RANGE)
            )
            for each in range(first, last):
                tally(each)

        sync_parallelize(task, tasks)
        for b in range(batch):
            var text = Tally()
            var stamps = Tally()
            for i in range(ranges):
                text = text.joined(tallies[unsafe_offset=2 * (i * batch + b)])
                stamps = stamps.joined(tallies[unsafe_offset=2 * (i * batch + b) + 1])
            var chosen, score = decide(text, stamps)
            token.unsafe_ptr().unsafe_store(b, Int64(chosen))
            logprob.unsafe_ptr().unsafe_store(b, score)
        normed.unsafe_free()
        logits.unsafe_free()
        tallies.unsafe_free()


@extensibility.register("token_probability")
struct TokenProbability:
    """Takes logits [batch, rows, n_vocab] and a token; gives its probability [batch, 1] by the first row's softmax."""

    @staticmethod
    def execute[
        target: StaticString
    ](
        probability: OutputTensor[dtype=DType.float32, rank=2, ...],
        logits: InputTensor[dtype=DType.float32, rank=3, ...],
        token: Int64,
        ctx: DeviceContext,
    ) raises:
        var rows = logits.dim_size[1]()
        var n_vocab = logits.dim_size[2]()
        for b in range(logits.dim_size[0]()):
            var row = logits.unsafe_ptr().unsafe_offset(b * rows * n_vocab)
            var best = LOWEST
            for i in range(n_vocab):
                best = max(best, row.unsafe_load(i))
            var total = SIMD[DType.float32, WIDTH](0)
            for i in range(0, n_vocab, WIDTH):
                var valid = min(WIDTH, n_vocab - i)
                var shares = exp2((load_some(row.unsafe_offset(i), valid) - best) * LOG2_E)
                for j in range(valid, WIDTH):
                    shares[j] = 0
                total += shares
            var share = power(row.unsafe_load(Int(token)) - best) / total.reduce_add()
            probability.unsafe_ptr().unsafe_store(b, share)
