"""Convolution over time."""

from __future__ import annotations

from dataclasses import dataclass

from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, option, register, weight_name
from max_whisper.spec.ops import Ops, Value, conv1d_length


@register("conv1d")
@dataclass(frozen=True, kw_only=True)
class Conv1d(Layer):
    """Applies a convolution over time, with a bias; only in the encoder, because a decoder step has a single row."""

    out: int = option("The number of channels of the output.")
    kernel: int = option("The rows that each output row is computed from.", maximum=1024)
    stride: int = option("The number of input rows from one output row to the next.", default=1, maximum=1024)
    padding: int = option("The rows of zeros that are added at either end.", default=0, minimum=0, maximum=1024)
    weights: str = weight_name("The prefix of the tensors `weight` [out, in, kernel] and `bias` [out].")

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if context.part == "decoder":
            raise self.error("conv1d is for the encoder only: the decoder works token by token")
        length = self._length(shape.length)
        if length < 1:
            padded = shape.length + 2 * self.padding
            raise self.error(f"expected at most {padded}, the rows of the padded input, got {self.kernel}", "kernel")
        return Shape(length, self.out)

    def _length(self, rows: int) -> int:
        return conv1d_length(rows, self.kernel, stride=self.stride, padding=self.padding)

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        weight = self.matrix(f"{self.weights}.weight", self.out, shape.channels, self.kernel)
        return [weight, self.tensor(f"{self.weights}.bias", self.out)]

    def flops(self, workload: Workload) -> int:
        return 2 * self._length(workload.query_length) * self.out * workload.channels * self.kernel

    def lower(self, ops: Ops, x: Value) -> Value:
        weight, bias = ops.weight(f"{self.weights}.weight"), ops.weight(f"{self.weights}.bias")
        return ops.conv1d(x, weight, bias, stride=self.stride, padding=self.padding)
