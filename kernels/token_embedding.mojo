"""The rows of an embedding's table for some tokens, with their positions added."""

import extensibility
from extensibility import InputTensor, OutputTensor
from max.gpu.host import DeviceContext


@extensibility.register("token_embedding")
struct TokenEmbedding:
    """Takes tokens [batch, length], which stand from `position` on, and tables [n_vocab, width] and [context, width].

    scales: of an int8 table, as in `skinny_linear`. Gives y [batch, length, width].
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
        var width = table.dim_size[1]()
        for row in range(tokens.dim_size[0]() * length):
            var token = Int(tokens.unsafe_ptr().unsafe_load(row))
            if token < 0 or token >= table.dim_size[0]():
                raise Error("a token that is not in the vocabulary")
            var scale = Float32(1)
            comptime if dtype == DType.int8:
                scale = scales.unsafe_ptr().unsafe_load(token)
            var place = (Int(position) + row % length) * width
            for c in range(width):
                var number = table.unsafe_ptr().unsafe_load(token * width + c).cast[DType.float32]() * scale
                y.unsafe_ptr().unsafe_store(row * width + c, number + positions.unsafe_ptr().unsafe_load(place + c))
