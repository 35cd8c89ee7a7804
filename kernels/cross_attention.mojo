"""The attention of tokens to the encoder's features, whose keys and values are computed once per window."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext

from .attend import Memory, attend


@extensibility.register("cross_attention")
struct CrossAttention:
    """Takes q [texts, length, heads * head_dim], keys and values [windows, heads, n_keys, head_dim]; returns y like q.

    Each window has the same number of texts, which follow each other. Of int8, each row of keys and values has a scale:
    [windows, heads, n_keys].
    """

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        q: InputTensor[dtype=DType.float32, rank=3, ...],
        keys: InputTensor[dtype=dtype, rank=4, ...],
        keys_scales: InputTensor[dtype=DType.float32, rank=3, ...],
        values: InputTensor[dtype=dtype, rank=4, ...],
        values_scales: InputTensor[dtype=DType.float32, rank=3, ...],
        ctx: DeviceContext,
    ) raises:
        var n_keys = keys.dim_size[2]()
        var memory = Memory[dtype](
            keys.unsafe_ptr(),
            values.unsafe_ptr(),
            keys_scales.unsafe_ptr(),
            values_scales.unsafe_ptr(),
            keys.dim_size[1](),
            n_keys,
            keys.dim_size[3](),
        )
        # Every row sees all keys, so that the texts of a window are as one.
        var windows = keys.dim_size[0]()
        if q.dim_size[0]() % windows != 0:
            raise Error("not as many texts of each window")
        var length = q.dim_size[0]() * q.dim_size[1]() // windows
        attend[dtype](q.unsafe_ptr(), memory, y.unsafe_ptr(), windows, length, n_keys, n_keys)
