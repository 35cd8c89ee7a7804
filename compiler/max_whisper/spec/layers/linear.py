"""Fully connected layer."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, option, register, weight_name
from max_whisper.spec.ops import Ops, Value


@register("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """Multiplies each row by a matrix, and adds a bias: x @ weight.T + bias."""

    out: int = option("The number of channels of the output.")
    bias: bool = option("Whether a bias is added.", default=True)
    weights: str = weight_name("The prefix of the tensors `weight` [out, in] and `bias` [out].")

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        return Shape(shape.length, self.out)

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        weight = self.matrix(f"{self.weights}.weight", self.out, shape.channels)
        return [weight, self.tensor(f"{self.weights}.bias", self.out)] if self.bias else [weight]

    def flops(self, workload: Workload) -> int:
        return 2 * workload.query_length * workload.channels * self.out

    def lower(self, ops: Ops, x: Value) -> Value:
        bias = ops.weight(f"{self.weights}.bias") if self.bias else None
        return ops.linear(x, ops.weight(f"{self.weights}.weight"), bias)
