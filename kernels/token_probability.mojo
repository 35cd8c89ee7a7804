"""The probability of one token, such as that of no-speech."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext

from .choose_token import LOG2_E, LOWEST, exp_of_difference
from .numerics import LANES, exp2, load_partial


@extensibility.register("token_probability")
struct TokenProbability:
    """Takes logits [batch, rows, n_vocab] and a token; returns its probability [batch, 1] by the first row."""

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
            var total = SIMD[DType.float32, LANES](0)
            for i in range(0, n_vocab, LANES):
                var valid = min(LANES, n_vocab - i)
                var powers = exp2((load_partial(row.unsafe_offset(i), valid) - best) * LOG2_E)
                for j in range(valid, LANES):
                    powers[j] = 0
                total += powers
            var power = exp_of_difference(row.unsafe_load(Int(token)) - best)
            probability.unsafe_ptr().unsafe_store(b, power / total.reduce_add())
