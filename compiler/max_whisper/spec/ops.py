"""The operations that layers are lowered to.

A layer's `lower` is written against the protocol `Ops`, so that `spec/` never imports MAX; `lowering/builder.py`
records the operations as a list. Activations are float32 [batch, length, channels]. Every value has a shape, `x.shape`,
which holds integers, and names for the dimensions that vary. Weights have the names and shapes of the checkpoint.

There are the operations of transformer models, which have fast code in every backend, and primitives, from which any
other layer can be built. `call` is for a kind of layer that has faster code in some backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")

Value = Any
"""A value of the program that is being built; a layer may read its `shape` and its `dtype`, and nothing else."""


class LstmWeights(NamedTuple):
    """The weights of a long short-term memory, which has the four gates input, forget, cell, output, in this order.

    Attributes:
        input_weight: The weights of the input, [4 * hidden, in].
        hidden_weight: The weights of the hidden state, [4 * hidden, hidden].
        input_bias: The bias, [4 * hidden].
        hidden_bias: A second bias, [4 * hidden], as PyTorch has it.
    """

    input_weight: Value
    hidden_weight: Value
    input_bias: Value
    hidden_bias: Value


def conv1d_length(length: int, kernel: int, *, stride: int, padding: int) -> int:
    """Returns the output rows of a convolution over `length` input rows, with `padding` zeros at either end."""
    return (length + 2 * padding - kernel) // stride + 1


class Ops(Protocol):
    """The operations that `lower` may call; the last two are called by the tree of layers."""

    # --- operations of transformer models

    def weight(self, name: str) -> Value:
        """Returns the tensor `name`, in the shape that the layer declared."""

    def conv1d(self, x: Value, weight: Value, bias: Value | None, *, stride: int, padding: int) -> Value:
        """Returns a convolution over the length.

        Args:
            x: The input, float32 [batch, length, in].
            weight: The weights, [out, in, kernel].
            bias: The bias, [out].
            stride: The rows from one window to the next.
            padding: The rows of zeros at either end.
        """

    def linear(self, x: Value, weight: Value, bias: Value | None) -> Value:
        """Returns `x @ weight.T + bias`.

        Args:
            x: The input, float32 [batch, length, in].
            weight: The weights, [out, in].
            bias: The bias, [out].
        """

    def layernorm(self, x: Value, weight: Value, bias: Value, *, eps: float) -> Value:
        """Returns `x` with each row normalized over its channels, then scaled and shifted.

        Args:
            x: The input, float32 [batch, length, channels].
            weight: The scales, [channels].
            bias: The shifts, [channels].
            eps: A number that is added to the variance.
        """

    def activation(self, x: Value, function: str) -> Value:
        """Returns an activation function of each element.

        Args:
            x: The input.
            function: "gelu" (exact, by erf), "gelu_tanh", "relu" or "silu".
        """

    def embedding(self, tokens: Value, table: Value) -> Value:
        """Returns the rows of a table that token ids name, float32 [batch, length, channels].

        Args:
            tokens: The token ids, int64 [batch, length].
            table: The table, [vocabulary, channels].
        """

    def positions(self, x: Value, table: Value) -> Value:
        """Returns `x` plus the rows of a table for the positions of its rows.

        Args:
            x: The input, float32 [batch, length, channels].
            table: The table, [context, channels].
        """

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        """Returns softmax(q k^T / sqrt(head channels)) v for each head, float32 [batch, length, channels].

        Args:
            q: The queries, float32 [batch, length, channels].
            k: The keys, of the same shape. The KV cache keeps them, and the values, as they are given here.
            v: The values, of the same shape.
            heads: The number of heads, which divides the channels.
            causal: Whether each row attends only to itself, the rows before it, and those in the KV cache.
        """

    def cross_attention(self, q: Value, *, heads: int) -> Value:
        """Returns the attention of `q` over the encoder's features, float32 [batch, length, channels].

        The keys and values are computed beforehand, once per window, by each layer's `lower_memory`.

        Args:
            q: The queries, float32 [batch, length, channels].
            heads: The number of heads, which divides the channels.
        """

    def add(self, x: Value, y: Value) -> Value:
        """Returns x + y; the shapes broadcast, here and in all operations of two values."""

    def logits(self, x: Value, table: Value) -> Value:
        """Returns `x @ table.T`, float32 [batch, length, vocabulary].

        Args:
            x: The input, float32 [batch, length, channels].
            table: The table of an embedding, [vocabulary, channels].
        """

    def lstm(self, x: Value, weights: LstmWeights, *, hidden: Value, cell: Value) -> Value:
        """Returns the hidden states of a long short-term memory, one for each row, float32 [batch, length, hidden].

        The rows of `x`, those of the whole batch in order, are one sequence. Before the first of them, the states are
        what the buffers hold; after the last one, they are written there.

        Args:
            x: The input, float32 [batch, length, in].
            weights: The weights.
            hidden: The buffer of the hidden state, [1, hidden].
            cell: The buffer of the cell state, [1, hidden].
        """

    # --- primitives, element by element

    def sub(self, x: Value, y: Value) -> Value:
        """Returns x - y."""

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

    def sqrt(self, x: Value) -> Value:
        """Returns the square root of x."""

    # --- primitives over an axis, and of shapes

    def constant(self, value: float) -> Value:
        """Returns a float32 scalar."""

    def mean(self, x: Value) -> Value:
        """Returns the mean over the last axis, which is kept with length 1."""

    def softmax(self, x: Value) -> Value:
        """Returns the softmax over the last axis."""

    def matmul(self, x: Value, y: Value) -> Value:
        """Returns the matrix product over the last two axes; the axes before them broadcast.

        For a product with weights, use `linear`, which has faster code.
        """

    def reshape(self, x: Value, shape: Sequence[int | str]) -> Value:
        """Returns the same elements in another shape.

        Args:
            x: The input.
            shape: The new shape, with dimensions that vary taken from `x.shape`.
        """

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        """Returns `x` with its axes in the order of `axes`."""

    def slice(self, x: Value, start: int, stop: int) -> Value:
        """Returns the elements from `start` up to, not including, `stop` of the last axis."""

    def concat(self, values: Sequence[Value]) -> Value:
        """Returns the values joined along the last axis."""

    def take(self, x: Value, rows: Sequence[int]) -> Value:
        """Returns some rows of `x`, which may be repeated: float32 [batch, len(rows), channels].

        Args:
            x: The input, float32 [batch, length, channels], whose length does not vary.
            rows: The indices of the rows, from 0.
        """

    # --- positions, and buffers that are kept from one call of the graph to the next

    def rows(self, table: Value, x: Value) -> Value:
        """Returns the rows of a table for the positions of the rows of `x`, [length, channels].

        There is no batch axis, because all rows of a batch are at the same positions.

        Args:
            table: The table, [context, channels].
            x: The value whose positions are meant, [batch, length, ...].
        """

    def state(self, name: str) -> Value:
        """Returns a buffer that the layer declared in `Layer.states`, for `read` and `write`."""

    def read(self, state: Value) -> Value:
        """Returns the content of a buffer."""

    def write(self, state: Value, x: Value) -> None:
        """Writes `x` to a buffer of its shape, for later reads in this call of the graph and the next."""

    # --- layers

    def call(self, kind: str, otherwise: Callable[..., Value], /, *values: Value, **attributes: Any) -> Value:
        """Returns the value of an op that has an emitter in some backends.

        Args:
            kind: The name of the op, under which backends register their emitters.
            otherwise: A function that builds the op from primitives: `otherwise(ops, *values, **attributes)`. Backends
                without an emitter use it, and in every backend it is called to find the shape of the value.
            *values: The op's inputs.
            **attributes: The op's settings, which are no values of the program.
        """

    def begin(self, path: str) -> None:
        """Attributes the ops that follow to the layer at `path` (see `tree.LayerNode`).

        The tree calls it before each layer that has no layers inside.
        """

    def layer_output(self, path: str, x: Value) -> None:
        """Records `x` as the output of the layer at `path` (see `tree.LayerNode`), for `verify` to compare.

        The tree calls it for all layers but `repeat`, in order of execution.
        """
