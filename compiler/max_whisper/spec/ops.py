"""The operations that layers are lowered to.

A layer's `lower` is written against this protocol, so that `spec/` never imports MAX; `lowering/builder.py` records
what is asked for as a list of ops. Activations are float32 [batch, length, channels], and every value has a shape:
`x.shape` holds integers, and the names of dimensions that vary. Weights are named and shaped as in the checkpoint.

There are the operations of Transformers, for which every target has fast code, and primitives, from which any
other kind of layer is built. `call` is for a kind that some targets have faster code for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")

Value = Any  # a value of the program being built; `.shape` and `.dtype` are all that a layer may ask of it


def conv1d_length(length: int, kernel: int, *, stride: int, padding: int) -> int:
    """Returns the rows that a convolution gives for an input of `length` rows, with `padding` zeros at either end."""
    return (length + 2 * padding - kernel) // stride + 1


class Ops(Protocol):
    """The methods that `lower` may call, and those that the tree calls around it."""

    # --- operations of Transformers

    def weight(self, name: str) -> Value:
        """Returns the tensor `name` of the checkpoint, or a computed one, in the shape that the layer declared."""

    def conv1d(self, x: Value, weight: Value, bias: Value | None, *, stride: int, padding: int) -> Value:
        """Returns a convolution over the length; `weight` is [out, in, kernel]."""

    def linear(self, x: Value, weight: Value, bias: Value | None) -> Value:
        """Returns `x @ weight.T + bias`; `weight` is [out, in]."""

    def layernorm(self, x: Value, weight: Value, bias: Value, *, eps: float) -> Value:
        """Returns `x`, each row normalized over its channels, scaled and shifted."""

    def activation(self, x: Value, function: str) -> Value:
        """Returns `gelu` (exact erf), `gelu_tanh`, `relu` or `silu` of each element."""

    def embedding(self, tokens: Value, table: Value) -> Value:
        """Returns the rows of `table` [vocabulary, channels] for int64 `tokens` [batch, length]."""

    def positions(self, x: Value, table: Value) -> Value:
        """Returns `x` plus the rows of `table` [context, channels] for the positions of its rows."""

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        """Returns softmax(q k^T / sqrt(channels of a head)) v, per head; causal attention also sees the KV cache."""

    def cross_attention(self, q: Value, *, heads: int) -> Value:
        """Returns the attention of `q` over the encoder's features, whose keys and values are computed beforehand.

        They come from each layer's `lower_memory`, once per window and in order of execution.
        """

    def add(self, x: Value, y: Value) -> Value:
        """Returns the sum of two values whose shapes broadcast."""

    def logits(self, x: Value, table: Value) -> Value:
        """Returns `x @ table.T` in float32, [batch, length, vocabulary]."""

    # --- primitives: of each element

    def sub(self, x: Value, y: Value) -> Value:
        """Returns x - y; shapes broadcast, here and below."""

    def mul(self, x: Value, y: Value) -> Value:
        """Returns x * y."""

    def div(self, x: Value, y: Value) -> Value:
        """Returns x / y."""

    def exp(self, x: Value) -> Value:
        """Returns e to the power of x."""

    def tanh(self, x: Value) -> Value:
        """Returns the hyperbolic tangent of x."""

    def sigmoid(self, x: Value) -> Value:
        """Returns 1 / (1 + e^-x)."""

    def rsqrt(self, x: Value) -> Value:
        """Returns 1 / sqrt(x)."""

    # --- primitives: over an axis, and of shapes

    def constant(self, value: float) -> Value:
        """Returns a float32 scalar."""

    def mean(self, x: Value) -> Value:
        """Returns the mean over the last axis, which stays with length 1."""

    def softmax(self, x: Value) -> Value:
        """Returns the softmax over the last axis."""

    def matmul(self, x: Value, y: Value) -> Value:
        """Returns the matrix product of the last two axes; those before broadcast. For weights, take `linear`."""

    def reshape(self, x: Value, shape: Sequence[int | str]) -> Value:
        """Returns the same elements in another shape; take dimensions that vary from `x.shape`."""

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """Returns `x` with its axes in this order."""

    def slice(self, x: Value, start: int, stop: int) -> Value:
        """Returns the elements from `start` to `stop` of the last axis."""

    def concat(self, values: Sequence[Value]) -> Value:
        """Returns the values joined along the last axis."""

    # --- where a row stands, and what is kept from call to call

    def rows(self, table: Value, x: Value) -> Value:
        """Returns the rows [length, channels] of `table` [context, channels] for the positions of the rows of `x`."""

    def state(self, name: str) -> Value:
        """Returns the buffer that the layer declared under this name (`Layer.states`), for `read` and `write`."""

    def read(self, state: Value) -> Value:
        """Returns what is in a buffer now."""

    def write(self, state: Value, x: Value) -> None:
        """Puts `x`, of the buffer's shape, into a buffer, for later reads and the next call of the graph."""

    # --- layers

    def call(self, kind: str, otherwise: Callable[..., Value], /, *values: Value, **attributes: Any) -> Value:
        """Returns the value of an op `kind`, which some targets have an emitter for.

        On all other targets it is `otherwise(ops, *values, **attributes)`, which is written with primitives. That is
        called for every target, because it gives the shape of the value.
        """

    def begin(self, path: str) -> None:
        """Attributes the ops that follow to the layer at `path` (see `tree.Node`).

        The tree calls it before each layer that has no layers inside.
        """

    def layer_output(self, path: str, x: Value) -> None:
        """Records that `x` is the output of the layer at `path` (see `tree.Node`), which a verification looks at.

        The tree calls it for all layers but `repeat`, in order of execution.
        """
