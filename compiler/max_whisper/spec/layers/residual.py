"""Residual branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from max_whisper.spec.layer import Container, Shape, register
from max_whisper.spec.ops import Ops, Value


@register("residual")
@dataclass(frozen=True, kw_only=True)
class Residual(Container):
    """Adds the input to the output of the layers inside: x + layers(x)."""

    inline: ClassVar[str | None] = "layers"

    def around_shape(self, shape: Shape, inner: Shape) -> Shape:
        if inner != shape:
            raise self.error(
                f"expected layers that keep the shape {shape} of the input they are added to; they return {inner}"
            )
        return shape

    def lower_around(self, ops: Ops, x: Value, inner: Callable[[Value], Value]) -> Value:
        return ops.add(x, inner(x))
