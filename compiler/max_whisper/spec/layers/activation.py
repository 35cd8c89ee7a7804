"""Element-wise activation functions, which differ in their names only and so share a file."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Layer, register
from max_whisper.spec.ops import Ops, Value


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """The base class of the activation functions."""

    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.activation(x, self.kind)


@register("gelu")
class Gelu(Activation):
    """Applies GELU, x * Phi(x), in its exact form with erf, which Whisper was trained with."""


@register("gelu_tanh")
class GeluTanh(Activation):
    """Applies GELU in its approximation with tanh."""


@register("relu")
class Relu(Activation):
    """Applies ReLU, max(x, 0)."""


@register("silu")
class Silu(Activation):
    """Applies SiLU (also called Swish), x * sigmoid(x)."""


@register("sigmoid")
@dataclass(frozen=True, kw_only=True)
class Sigmoid(Layer):
    """Applies the sigmoid, 1 / (1 + e^-x), which makes probabilities."""

    def lower(self, ops: Ops, x: Value) -> Value:
        return ops.sigmoid(x)
