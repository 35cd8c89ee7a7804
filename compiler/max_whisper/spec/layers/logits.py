"""Output projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from max_whisper.messages import one_of, quote, suggestion
from max_whisper.spec.layer import Context, Layer, Shape, Workload, register, weight_name
from max_whisper.spec.layers.embedding import Embedding
from max_whisper.spec.ops import Ops, Value


@register("logits")
@dataclass(frozen=True, kw_only=True)
class Logits(Layer):
    """Computes a score for each token, x @ table.T, with the table of an embedding; the last layer of the decoder."""

    returns_logits: ClassVar[bool] = True

    tied: str = weight_name("The `weights` of the embedding whose table is used.")

    @property
    def table(self) -> str:
        """The name of the tensor that holds the table."""
        return f"{self.tied}.weight"

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        tables = {layer.weights: layer for layer in context.layers if isinstance(layer, Embedding)}
        if self.tied not in tables:
            if not tables:
                raise self.error("expected an embedding in the decoder, there is none", "tied")
            known = f"expected the weights of an embedding, {one_of(tables)}"
            raise self.error(f"{known}, got {quote(self.tied)}{suggestion(self.tied, tables)}", "tied")
        table = tables[self.tied]
        if shape.channels != table.width:
            raise self.error(f"expected an input of {table.width} channels, as in the table, got {shape.channels}")
        return Shape(shape.length, table.vocab)

    def flops(self, workload: Workload) -> int:
        return 2 * workload.query_length * workload.channels * workload.out

    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.logits(x, ops.weight(self.table))
