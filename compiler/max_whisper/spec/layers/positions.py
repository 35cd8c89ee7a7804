"""Position embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, option, register, weight_name
from max_whisper.spec.ops import Ops, Value


def sinusoids(length: int, channels: int) -> NDArray[np.float32]:
    """Returns sines and cosines of timescales 1 to 10000, float32 [length, channels] (openai/whisper, model.py)."""
    rates = np.exp(-np.log(10000) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


@register("positions")
@dataclass(frozen=True, kw_only=True)
class Positions(Layer):
    """Adds row p of a table to row p of the input; the table is in the checkpoint, or is computed as sinusoids.

    The table of the checkpoint may have more rows than the input, which are not used then.
    """

    weights: str | None = weight_name(
        "The prefix of the tensor `weight` [length, channels], a stored table.", default=None
    )
    sinusoidal: bool = option("Whether the table is computed, as the sinusoids of openai/whisper.", default=False)
    length: int | None = option("The rows of the table, which must be as many as those of the input.", default=None)

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if (self.weights is None) != self.sinusoidal:
            raise self.error("expected either 'weights', for a stored table, or 'sinusoidal: true', for a computed one")
        if self.sinusoidal and (shape.channels % 2 or shape.channels < 4):
            raise self.error(f"expected an even number of channels from 4 up, got {shape.channels}", "sinusoidal")
        if self.length not in (None, shape.length):
            raise self.error(f"expected {shape.length}, the length of what it is added to, got {self.length}", "length")
        return shape

    @property
    def table(self) -> str:
        """The name of the tensor that holds the table."""
        return f"{self.path}.sinusoids" if self.sinusoidal else f"{self.weights}.weight"

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        computed = sinusoids if self.sinusoidal else None
        return [self.tensor(self.table, *shape, computed=computed, cut=not self.sinusoidal)]

    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.positions(x, ops.weight(self.table))
