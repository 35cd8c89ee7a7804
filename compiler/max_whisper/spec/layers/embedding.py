"""Token embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, option, register, weight_name
from max_whisper.spec.ops import Ops, Value


@register("embedding")
@dataclass(frozen=True, kw_only=True)
class Embedding(Layer):
    """Looks up the row of a table for each token id; the first layer of the decoder."""

    reads_tokens: ClassVar[bool] = True

    vocab: int = option("The number of tokens of the vocabulary.")
    width: int = option("The number of channels of the output.")
    weights: str = weight_name("The prefix of the tensor `weight` [vocab, width], the table.")

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if shape.channels:
            raise self.error("embedding reads token ids: expected it only as the first layer of the decoder")
        return Shape(shape.length, self.width)

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        return [self.matrix(f"{self.weights}.weight", self.vocab, self.width)]

    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.embedding(x, ops.weight(f"{self.weights}.weight"))
