"""Padding by reflection."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Context, Layer, Shape, option, register
from max_whisper.spec.ops import Ops, Value


@register("reflect")
@dataclass(frozen=True, kw_only=True)
class Reflect(Layer):
    """Adds rows at the end that repeat the rows before the last one in reverse order."""

    rows: int = option("The number of rows that are added.", maximum=2**16)

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if self.rows >= shape.length:
            raise self.error(f"expected fewer than {shape.length}, the rows of the input, got {self.rows}", "rows")
        return Shape(shape.length + self.rows, shape.channels)

    def lower(self, ops: Ops, x: Value) -> Value:
        last = x.shape[1] - 1
        return ops.take(x, [*range(last + 1), *range(last - 1, last - 1 - self.rows, -1)])
