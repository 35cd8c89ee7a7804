"""The causal self-attention of the decoder, with a KV cache."""

import extensibility
from extensibility import InputTensor, OutputTensor, _MutableInputTensor
from max.gpu.host import DeviceContext

from .attend import Memory, attend
from .numerics import copy


@always_inline
def store_in_cache(
    x: Pointer[Float32, ...],
    cache: Pointer[mut=True, Float32, ...],
    window: Int,
    head: Int,
    length: Int,
    heads: Int,
    head_dim: Int,
    capacity: Int,
    first: Int,
):
    """Writes a head's part of a window of x [batch, length, heads * head_dim] into a cache, from `first` on."""
    for i in range(length):
        var source = ((window * length + i) * heads + head) * head_dim
        var place = ((window * heads + head) * capacity + first + i) * head_dim
        copy(x.unsafe_offset(source), cache.unsafe_offset(place), head_dim)


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
        if first + length > capacity:
            raise Error("a token behind the end of the text context")
        for window in range(batch):
            for head in range(heads):
                store_in_cache(
                    k.unsafe_ptr(), key_cache.unsafe_ptr(), window, head, length, heads, head_dim, capacity, first
                )
                store_in_cache(
                    v.unsafe_ptr(), value_cache.unsafe_ptr(), window, head, length, heads, head_dim, capacity, first
                )
        var memory = Memory[DType.float32](
            key_cache.unsafe_ptr(),
            value_cache.unsafe_ptr(),
            key_cache.unsafe_ptr(),  # float32 has no scales
            value_cache.unsafe_ptr(),
            heads,
            capacity,
            head_dim,
        )
        attend[DType.float32](q.unsafe_ptr(), memory, y.unsafe_ptr(), batch, length, first + length, first)
