"""Cross-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from max_whisper.spec.heads import check_heads, project, projections
from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, option, register, weight_name
from max_whisper.spec.ops import Ops, Value


@register("cross_attention")
@dataclass(frozen=True, kw_only=True)
class CrossAttention(Layer):
    """Applies multi-head attention to the encoder's features, whose keys and values are computed once per window."""

    heads: int = option("The number of heads, which must divide the channels of the input.")
    memory: Literal["encoder"] = option("The part of the model whose output is attended to.", default="encoder")
    weights: str = weight_name("The prefix of the tensors of q_proj, k_proj (without bias), v_proj and out_proj.")

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        if context.memory is None:
            raise self.error("cross_attention is for the decoder only; did you mean 'attention'?")
        check_heads(self, self.heads, shape.channels)
        if shape.channels != context.memory.channels:
            expected = f"as many channels as the encoder's features have, {context.memory.channels}"
            raise self.error(f"expected an input of {expected}, got {shape.channels}")
        return shape

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        return projections(self, self.weights, shape.channels)

    def flops(self, workload: Workload) -> int:
        """Returns the operations of the q and out projections, of the scores, and of the weighted sum."""
        rows, channels = workload.query_length, workload.channels
        return 2 * 2 * rows * channels**2 + 2 * 2 * rows * workload.memory.length * channels

    def memory_flops(self, workload: Workload) -> int:
        """Returns the operations of the k and v projections of the features."""
        return 2 * 2 * workload.memory.length * workload.memory.channels * workload.channels

    def memory_tensors(self, shape: Shape) -> list[TensorSpec]:
        """Returns the tensors of the k and v projections."""
        prefixes = (f"{self.weights}.k_proj.", f"{self.weights}.v_proj.")
        return [tensor for tensor in self.tensors(shape) if tensor.name.startswith(prefixes)]

    def lower(self, ops: Ops, x: Value) -> Value:
        y = ops.cross_attention(project(ops, x, self.weights, "q_proj"), heads=self.heads)
        return project(ops, y, self.weights, "out_proj")

    def lower_memory(self, ops: Ops, features: Value) -> tuple[Value, Value]:
        """Returns the keys and the values of `features`, float32 [batch, length, channels], in the same shape."""
        return project(ops, features, self.weights, "k_proj"), project(ops, features, self.weights, "v_proj")
