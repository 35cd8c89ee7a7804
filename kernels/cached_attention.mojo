"""The causal self-attention of the decoder, with a KV cache."""

import extensibility
from extensibility import InputTensor, OutputTensor, _MutableInputTensor
from max.gpu.host import DeviceContext

from .attend import attend


@extensibility.register("cached_attention")
struct CachedAttention:
    """Takes q, k and v [batch, length, heads * head_dim] of the tokens at `position` and after it; returns y like q.

    Writes k and v into the caches [batch, heads, n_text_ctx, head_dim]. Each token sees the keys up to its own.
    """

    @staticmethod
    def execute[
        target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        k: InputTensor[dtype=DType.float32, rank=3, ...],
        v: InputTensor[dtype=DType.float32, rank=3, ...],
        key_cache: _MutableInputTensor[dtype=DType.float32, rank=4, ...],
        value_cache: _MutableInputTensor[dtype=DType.float32, rank=4, ...],
        position: Int64,
        ctx: DeviceContext,
    ) raises:
        var batch = q.dim_size[0]()
        var length = q.dim_size[1]()
        var heads = key_cache.dim_size[1]()
        var capacity = key_cache.dim_size[2]()
        var head_dim = key_cache.dim_size[3]()
        var first = Int(position)
        for b in range(batch):
            for i in range(length):
                for head in range(heads):
                    var source = (b * length + i) * heads * head_dim + head * head_dim
                    var place = ((b * heads + head) * capacity + first + i) * head_dim
                    for c in range(head_dim):
                        key_cache.unsafe_ptr().unsafe_store(place + c, k.unsafe_ptr().unsafe_load(source + c))
                        value_cache.unsafe_ptr().unsafe_store(place + c, v.unsafe_ptr().unsafe_load(source + c))
        attend[DType.float32](
            q.unsafe_ptr(),
            key_cache.unsafe_ptr(),
            value_cache.unsafe_ptr(),
            y.unsafe_ptr(),
            batch,
            length,
            heads,
            head_dim,
            first + length,
            capacity,
            first,
        )
