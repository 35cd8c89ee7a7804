"""Matrix product."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, option, register, weight_name
from max_whisper.spec.ops import Ops, Value


@register("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """x @ weight.T + bias."""

    out: int = option("channels of the output")
    bias: bool = option("whether there is a bias", default=True)
    weights: str = weight_name("prefix of the tensors `weight` [out, in] and `bias` [out]")

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
