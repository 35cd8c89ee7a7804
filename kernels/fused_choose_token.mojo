"""The choice of the next token together with the logits that it needs, which are not written to memory.

The logits of a range of the vocabulary are tallied while they are in the cache of the core that computed them.
"""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import ceildiv
from std.memory.alloc import unsafe_alloc

from .choose_token import N_BOUNDS, Tally, allows_any, choose, tally_allowed
from .few_rows import FewRows, Norm, multiply_range
from .parallel import for_each, thread_count

comptime RANGE = 512
"""Tokens that are tallied together, however many threads there are: the bits of a sum depend on where it begins."""


@extensibility.register("fused_choose_token")
struct FusedChooseToken:
    """Takes x [texts, length, in], layer normalization and table [n_vocab, in]; returns what `choose_token` returns.

    The logits are layernorm(x) @ table^T, all rows of which count. scales: of an int8 table, as `gemv` takes them.
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
        allowed: InputTensor[dtype=DType.int64, rank=3, ...],
        noise: InputTensor[dtype=DType.float32, rank=3, ...],
        ctx: DeviceContext,
    ) raises:
        var n_rows = x.dim_size[0]() * x.dim_size[1]()
        var n_vocab = table.dim_size[0]()
        var n_in = table.dim_size[1]()
        var ranges = ceildiv(n_vocab, RANGE)
        var threads = thread_count(ranges)
        var rows = FewRows[dtype](n_rows, n_in)
        var logits = unsafe_alloc[Float32](n_rows * n_vocab)
        var tallies = unsafe_alloc[Tally](2 * n_rows * ranges)  # [ranges, rows, text and timestamps]
        for i in range(2 * n_rows * ranges):  # a range that is left out keeps the tally of no tokens
            tallies[unsafe_offset=i] = Tally()
        var table_at = table.unsafe_ptr()
        var scales_at = scales.unsafe_ptr()
        var mask_at = mask.unsafe_ptr()
        var noise_at = noise.unsafe_ptr()
        var allowed_at = allowed.unsafe_ptr()
        rows.fill[True](x.unsafe_ptr(), Norm(norm_weight.unsafe_ptr(), norm_bias.unsafe_ptr(), eps))

        def tally_range(i: Int) {imm}:
            """Computes and tallies the logits of a range, unless no row may choose any of its tokens."""
            var first = i * RANGE
            var last = min(n_vocab, first + RANGE)
            var any_allowed = False
            for r in range(n_rows):
                any_allowed = any_allowed or allows_any(allowed_at.unsafe_offset(r * N_BOUNDS), first, last)
            if not any_allowed:
                return
            multiply_range[dtype](rows, table_at, logits, n_vocab, first, last)
            for r in range(n_rows):
                var row = logits.unsafe_offset(r * n_vocab)
                comptime if dtype == DType.int8:
                    for j in range(first, last):
                        row.unsafe_store(j, row.unsafe_load(j) * scales_at.unsafe_load(j))
                var text, timestamps = tally_allowed(
                    row,
                    mask_at,
                    noise_at.unsafe_offset(r * n_vocab),
                    allowed_at.unsafe_offset(r * N_BOUNDS),
                    first,
                    last,
                )
                tallies[unsafe_offset=2 * (i * n_rows + r)] = text
                tallies[unsafe_offset=2 * (i * n_rows + r) + 1] = timestamps

        for_each(ranges, threads, tally_range)
        for r in range(n_rows):
            var text = Tally()
            var timestamps = Tally()
            for i in range(ranges):
                text = text.merged(tallies[unsafe_offset=2 * (i * n_rows + r)])
                timestamps = timestamps.merged(tallies[unsafe_offset=2 * (i * n_rows + r) + 1])
            var chosen, score = choose(text, timestamps)
            token.unsafe_ptr().unsafe_store(r, Int64(chosen))
            logprob.unsafe_ptr().unsafe_store(r, score)
        logits.unsafe_free()
        tallies.unsafe_free()
