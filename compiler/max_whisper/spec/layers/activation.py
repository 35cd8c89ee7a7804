"""Element-wise activations: they differ in their name only, so they share a file."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Layer, register
from max_whisper.spec.ops import Ops, Value


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.activation(x, self.kind)


@register("gelu")
class Gelu(Activation):
    """x * Phi(x), the exact form with erf, as Whisper was trained."""


@register("gelu_tanh")
class GeluTanh(Activation):
    """GELU approximated with tanh."""


@register("relu")
class Relu(Activation):
    """max(x, 0)."""


@register("silu")
class Silu(Activation):
    """x * sigmoid(x)."""
