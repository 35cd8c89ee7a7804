"""Self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from max_whisper.spec.heads import check_heads, project, projections
from max_whisper.spec.layer import Context, Layer, Shape, TensorSpec, Workload, option, register, weight_name
from max_whisper.spec.ops import Ops, Value


@register("attention")
@dataclass(frozen=True, kw_only=True)
class Attention(Layer):
    """Applies multi-head self-attention, which is causal in the decoder."""

    self_attention: ClassVar[bool] = True

    heads: int = option("The number of heads, which must divide the channels of the input.")
    causal: bool = option("Whether a row attends only to itself and to the rows before it.", default=False)
    weights: str = weight_name("The prefix of the tensors of q_proj, k_proj (without bias), v_proj and out_proj.")

    def output_shape(self, shape: Shape, context: Context) -> Shape:
        check_heads(self, self.heads, shape.channels)
        if self.causal and context.part == "encoder":
            raise self.error("expected false in the encoder, which sees the whole window at once", "causal")
        if not self.causal and context.part == "decoder":
            raise self.error("expected 'causal: true' in the decoder, which works token by token", "causal")
        return shape

    def tensors(self, shape: Shape) -> list[TensorSpec]:
        return projections(self, self.weights, shape.channels)

    def flops(self, workload: Workload) -> int:
        """Returns the operations of the four projections, of the scores, and of the weighted sum."""
        rows, channels = workload.query_length, workload.channels
        return 4 * 2 * rows * channels**2 + 2 * 2 * rows * workload.kv_length * channels

    def lower(self, ops: Ops, x: Value) -> Value:
        q, k, v = (project(ops, x, self.weights, name) for name in ("q_proj", "k_proj", "v_proj"))
        y = ops.self_attention(q, k, v, heads=self.heads, causal=self.causal)
        return project(ops, y, self.weights, "out_proj")
