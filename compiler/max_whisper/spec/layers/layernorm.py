"""Layer normalization."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Layer, Shape, TensorSpec, option, register, weight_name
from max_whisper.spec.ops import Ops, Value


@register("layernorm")
@dataclass(frozen=True, kw_only=True)
class LayerNorm(Layer):
    """Normalizes each row over its channels, (x - mean) / sqrt(variance + eps), then scales and shifts it."""

    eps: float = option("A small number that is added to the variance.", default=1e-5, minimum=0, maximum=1)
    weights: str = weight_name("The prefix of the tensors `weight` [channels] and `bias` [channels].")

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        return [self.tensor(f"{self.weights}.{part}", shape.channels) for part in ("weight", "bias")]

    def lower(self, ops: Ops, x: Value) -> Value:
        weight, bias = ops.weight(f"{self.weights}.weight"), ops.weight(f"{self.weights}.bias")
        return ops.layernorm(x, weight, bias, eps=self.eps)
