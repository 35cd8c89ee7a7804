"""The operations that layers are lowered to.

A layer's `lower` is written against this protocol, so that `spec/` never imports MAX;
`lowering/ops.py` implements it with MAX Graph. Activations carry a leading batch dimension:
`[batch, length, channels]`. Weights are named and shaped as in Hugging Face checkpoints.
"""

from __future__ import annotations

from typing import Any, Protocol

Value = Any  # a tensor of the graph being built; opaque to the spec


class Ops(Protocol):
    def weight(self, name: str) -> Value:
        """The tensor `name` of the checkpoint, or a computed one, in the shape that the layer declared for it."""

    def conv1d(self, x: Value, weight: Value, bias: Value | None, *, stride: int, padding: int) -> Value:
        """Convolution over the length; `weight` is [out, in, kernel]."""

    def linear(self, x: Value, weight: Value, bias: Value | None) -> Value:
        """`x @ weight.T + bias`; `weight` is [out, in]."""

    def layernorm(self, x: Value, weight: Value, bias: Value, *, eps: float) -> Value:
        """Normalisation of each row over its channels."""

    def activation(self, x: Value, function: str) -> Value:
        """Element-wise `gelu` (exact erf), `gelu_tanh`, `relu` or `silu`."""

    def embedding(self, tokens: Value, table: Value) -> Value:
        """Rows of `table` [vocabulary, channels] for int64 `tokens` [batch, length]."""

    def positions(self, x: Value, table: Value) -> Value:
        """`x` plus the rows of `table` [context, channels] for the places where `x` stands."""

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        """Softmax(q k^T / sqrt(width of a head)) v, per head; causal attention also sees the cached past."""

    def cross_attention(self, q: Value, *, heads: int) -> Value:
        """Attention of `q` over the encoder's features; the target holds their keys and values, one pair per layer.

        The pairs come from each layer's `lower_memory`, once per window and in order of execution.
        """

    def add(self, x: Value, y: Value) -> Value:
        """Element-wise sum of two activations of one shape."""

    def logits(self, x: Value, table: Value) -> Value:
        """`x @ table.T` in float32, [batch, length, vocabulary]."""

    def begin(self, path: str) -> None:
        """Called before each layer that has none inside is built; `path` is that of the node (see `tree.Node`)."""

    def tap(self, path: str, x: Value) -> None:
        """Called with what each layer gives, as soon as it is built: every layer but `repeat`, in order of execution.

        `path` is that of the node (see `tree.Node`). It is how a verification sees all layers of a model.
        """
