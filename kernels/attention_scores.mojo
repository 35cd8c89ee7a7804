"""The scores of some heads of a cross-attention, from which the times of words are computed."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import rsqrt

from .few_rows import FewRows, multiply_range


@extensibility.register("attention_scores")
struct AttentionScores:
    """Takes q [batch, length, all heads * head_dim], keys [batch, all heads, n_keys, head_dim] and indices of heads.

    Returns the scores of these heads before the softmax, q keys^T / sqrt(head_dim): [batch, heads, length, n_keys].
    Each int8 key has a scale: [batch, all heads, n_keys].
    """

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        scores: OutputTensor[dtype=DType.float32, rank=4, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        keys: InputTensor[dtype=dtype, rank=4, ...],
        keys_scales: InputTensor[dtype=DType.float32, rank=3, ...],
        heads: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var length = q.dim_size[1]()
        var all_heads = keys.dim_size[1]()
        var n_keys = keys.dim_size[2]()
        var head_dim = keys.dim_size[3]()
        var n_heads = heads.dim_size[0]()
        var scale = rsqrt(Float32(head_dim))
        var query = FewRows[dtype](1, head_dim)
        for b in range(q.dim_size[0]()):
            for n in range(n_heads):
                var head = Int(heads.unsafe_ptr().unsafe_load(n))
                var place = (b * all_heads + head) * n_keys
                for i in range(length):
                    query.fill_row(0, q.unsafe_ptr().unsafe_offset(((b * length + i) * all_heads + head) * head_dim))
                    var y = scores.unsafe_ptr().unsafe_offset(((b * n_heads + n) * length + i) * n_keys)
                    multiply_range[dtype](
                        query, keys.unsafe_ptr().unsafe_offset(place * head_dim), y, n_keys, 0, n_keys
                    )
                    for t in range(n_keys):
                        var score = y.unsafe_load(t) * scale
                        comptime if dtype == DType.int8:
                            score *= keys_scales.unsafe_ptr().unsafe_load(place + t)
                        y.unsafe_store(t, score)
