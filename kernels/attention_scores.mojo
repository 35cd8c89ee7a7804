"""The scores of some heads of a cross-attention, from which the times of words are computed."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext
from std.math import rsqrt

from .attend import dot


@extensibility.register("attention_scores")
struct AttentionScores:
    """Takes q [batch, length, all heads * head_dim], keys [batch, all heads, n_keys, head_dim] and indices of heads.

    Returns the scores of these heads before the softmax, q keys^T / sqrt(head_dim): [batch, heads, length, n_keys].
    """

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        scores: OutputTensor[dtype=DType.float32, rank=4, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        keys: InputTensor[dtype=dtype, rank=4, ...],
        heads: InputTensor[dtype=DType.int64, rank=1, ...],
        ctx: DeviceContext,
    ) raises:
        var length = q.dim_size[1]()
        var all_heads = keys.dim_size[1]()
        var n_keys = keys.dim_size[2]()
        var head_dim = keys.dim_size[3]()
        var n_heads = heads.dim_size[0]()
        var scale = rsqrt(Float32(head_dim))
        for b in range(q.dim_size[0]()):
            for n in range(n_heads):
                var head = Int(heads.unsafe_ptr().unsafe_load(n))
                var k = keys.unsafe_ptr().unsafe_offset((b * all_heads + head) * n_keys * head_dim)
                for i in range(length):
                    var row = q.unsafe_ptr().unsafe_offset(((b * length + i) * all_heads + head) * head_dim)
                    var y = scores.unsafe_ptr().unsafe_offset(((b * n_heads + n) * length + i) * n_keys)
                    for t in range(n_keys):
                        y.unsafe_store(t, dot[dtype](row, k.unsafe_offset(t * head_dim), head_dim) * scale)
