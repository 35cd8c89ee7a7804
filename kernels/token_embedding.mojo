"""The rows of the token embedding, plus those of the position embedding."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext


@extensibility.register("token_embedding")
struct TokenEmbedding:
    """Takes tokens [batch, length], the first of which stands at `position`; returns y [batch, length, channels].

    Args of `execute`:
        table: [n_vocab, channels].
        scales: Of an int8 table, [2, n_vocab], as `gemv` takes them.
        positions: [n_text_ctx, channels].
    """

    @staticmethod
    def execute[
        dtype: DType, target: StaticString
    ](
        y: OutputTensor[dtype=DType.float32, rank=3, ...],
        tokens: InputTensor[dtype=DType.int64, rank=2, ...],
        table: InputTensor[dtype=dtype, rank=2, ...],
        scales: InputTensor[dtype=DType.float32, rank=2, ...],
        positions: InputTensor[dtype=DType.float32, rank=2, ...],
        position: Int64,
        ctx: DeviceContext,
    ) raises:
        var length = tokens.dim_size[1]()
        var channels = table.dim_size[1]()
        for row in range(tokens.dim_size[0]() * length):
            var token = Int(tokens.unsafe_ptr().unsafe_load(row))
            if token < 0 or token >= table.dim_size[0]():
                raise Error("a token that is not in the vocabulary")
            var scale = Float32(1)
            comptime if dtype == DType.int8:
                scale = scales.unsafe_ptr().unsafe_load(token)
            var place = (Int(position) + row % length) * channels
            for c in range(channels):
                var number = table.unsafe_ptr().unsafe_load(token * channels + c).cast[DType.float32]() * scale
                y.unsafe_ptr().unsafe_store(row * channels + c, number + positions.unsafe_ptr().unsafe_load(place + c))
