"""Magnitude of complex numbers."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Context, Layer, Shape, register
from max_whisper.spec.ops import Ops, Value


@register("magnitude")
@dataclass(frozen=True, kw_only=True)
class Magnitude(Layer):
    """Replaces complex numbers by their magnitudes; the real parts are the first half of the channels."""

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if shape.channels % 2:
            raise self.error(f"expected an even number of channels, got {shape.channels}")
        return Shape(shape.length, shape.channels // 2)

    def lower(self, ops: Ops, x: Value) -> Value:
        channels = x.shape[2]
        real, imaginary = ops.slice(x, 0, channels // 2), ops.slice(x, channels // 2, channels)
        return ops.sqrt(ops.add(ops.mul(real, real), ops.mul(imaginary, imaginary)))
