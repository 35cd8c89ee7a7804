"""Records the ops of a program: a Builder is the `ops` that the `lower` of each layer gets.

Every op is recorded with the shapes of its outputs and the layer that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from max_whisper.lowering.decoder_context import DecoderContext, next_of
from max_whisper.lowering.ops import Dim, Input, Op, Program, Value, WeightValue
from max_whisper.lowering.shapes import (
    broadcast,
    check_heads,
    check_lstm,
    check_product,
    check_rows,
    check_taken,
    check_vector,
    known,
    operands,
    reshaped,
)
from max_whisper.messages import one_of
from max_whisper.spec.ops import ACTIVATIONS, LstmWeights, Ops, conv1d_length
from max_whisper.tensors.stored import StoredTensor

ATTENTION = ("full_attention", "cached_attention", "cross_attention")
"""The kinds of ops that `self_attention` and `cross_attention` record."""


class Builder(Ops):
    """Records one program. Beside the methods of `Ops`, it has a few that only the graphs of a family call."""

    def __init__(
        self,
        tensors: Mapping[str, StoredTensor],
        kinds: Collection[str],
        inputs: Mapping[str, Input],
        decoder: DecoderContext | None = None,
    ) -> None:
        """Starts an empty program.

        Args:
            tensors: All tensors of the artifact, by name.
            kinds: The kinds of ops that the backend has emitters for.
            inputs: The inputs of the graph, by name.
            decoder: None for a graph without positions and caches.
        """
        self._tensors = tensors
        self._kinds = kinds
        self._inputs = inputs
        self._decoder = decoder
        self._weights: dict[str, Value] = {}
        self._ops: list[Op] = []
        self._layer: str | None = None
        self._layers: dict[str, Value] = {}

    def program(self, name: str, outputs: Mapping[str, Value]) -> Program:
        """Returns what was recorded so far as the graph `name`, with these outputs."""
        return Program(name, self._inputs, self._ops, outputs, self._layers)

    # --- operations of Transformers

    def weight(self, name: str) -> Value:
        if name not in self._tensors:
            raise ValueError(f"there is no tensor '{name}': expected one that the layer's `tensors` declares")
        if name not in self._weights:  # a graph may declare a weight only once
            tensor = self._tensors[name]
            self._weights[name] = WeightValue(tuple(tensor.shape), tensor.dtype, stored=tensor)
            self._record("weight", {}, (self._weights[name],), tensor=tensor)
        return self._weights[name]

    def conv1d(self, x: Value, weight: Value, bias: Value | None, *, stride: int, padding: int) -> Value:
        inputs = operands("conv1d", x=x, weight=weight, bias=bias)
        check_product("conv1d", x, weight, bias)
        out, _, kernel = weight.shape
        length = conv1d_length(known(x.shape[1]), known(kernel), stride=stride, padding=padding)
        return self._op("conv1d", inputs, (x.shape[0], length, out), stride=stride, padding=padding)

    def linear(self, x: Value, weight: Value, bias: Value | None) -> Value:
        inputs = operands("linear", x=x, weight=weight, bias=bias)
        check_product("linear", x, weight, bias)
        return self._op("linear", inputs, (*x.shape[:-1], weight.shape[0]))

    def layernorm(self, x: Value, weight: Value, bias: Value, *, eps: float) -> Value:
        inputs = operands("layernorm", x=x, weight=weight, bias=bias)
        check_rows("layernorm", x)
        for name, vector in (("weight", weight), ("bias", bias)):
            check_vector("layernorm", name, vector, x.shape[2])
        return self._op("layernorm", inputs, x.shape, eps=eps)

    def activation(self, x: Value, function: str) -> Value:
        if function not in ACTIVATIONS:
            raise ValueError(f"activation: expected {one_of(ACTIVATIONS)}, found '{function}'")
        return self._same_shape("activation", x, function=function)

    def embedding(self, tokens: Value, table: Value) -> Value:
        inputs = operands("embedding", tokens=tokens, table=table)
        return self._op("embedding", inputs, (*tokens.shape, table.shape[1]))

    def positions(self, x: Value, table: Value) -> Value:
        position = self._decoder.position if self._decoder else None
        inputs = operands("positions", x=x, table=table, position=position)
        if table.shape[1:] != x.shape[2:] or (position is None and table.shape[0] != x.shape[1]):
            raise ValueError(f"positions: expected a table for {x.shape}, found shape {table.shape}")
        return self._op("positions", inputs, x.shape)

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        inputs = operands("self_attention", q=q, k=k, v=v)
        check_rows("self_attention", q, k, v)
        check_heads("self_attention", q, heads)
        if not causal:
            return self._op("full_attention", inputs, q.shape, heads=heads)
        if self._decoder is None:
            raise ValueError("causal attention needs a KV cache: it is for decoders")
        keys, values = next_of(self._decoder.caches, "a layer with causal attention must say `self_attention = True`")
        inputs |= {"key_cache": keys, "value_cache": values, "position": self._decoder.position}
        return self._op("cached_attention", inputs, q.shape, heads=heads)

    def cross_attention(self, q: Value, *, heads: int) -> Value:
        if self._decoder is None:
            raise ValueError("cross-attention needs the encoder's features: it is for decoders")
        inputs = operands("cross_attention", q=q)
        check_rows("cross_attention", q)
        check_heads("cross_attention", q, heads)
        self._decoder.queries.append(q)
        memory = next_of(self._decoder.cross, "only cross_attention has keys and values of the features")
        return self._op("cross_attention", {**inputs, **memory}, q.shape, heads=heads)

    def add(self, x: Value, y: Value) -> Value:
        return self._elementwise("add", x, y)

    def logits(self, x: Value, table: Value) -> Value:
        operands("logits", x=x, table=table)  # raises for a wrong operand, before rows are selected
        if self._decoder is not None and self._decoder.logits_from is not None:
            shape = (x.shape[0], "n_scored", *x.shape[2:])
            x = self._op("rows_from", {"x": x, "first": self._decoder.logits_from}, shape)
        check_product("logits", x, table)
        return self._op("logits", {"x": x, "table": table}, (*x.shape[:-1], table.shape[0]))

    def lstm(self, x: Value, weights: LstmWeights, *, hidden: Value, cell: Value) -> Value:
        inputs = operands("lstm", x=x, **weights._asdict(), hidden=hidden, cell=cell)
        check_lstm(x, weights, hidden, cell)
        return self._op("lstm", inputs, (*x.shape[:2], hidden.shape[1]))

    # --- primitives

    def sub(self, x: Value, y: Value) -> Value:
        return self._elementwise("sub", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self._elementwise("mul", x, y)

    def div(self, x: Value, y: Value) -> Value:
        return self._elementwise("div", x, y)

    def exp(self, x: Value) -> Value:
        return self._same_shape("exp", x)

    def tanh(self, x: Value) -> Value:
        return self._same_shape("tanh", x)

    def sigmoid(self, x: Value) -> Value:
        return self._same_shape("sigmoid", x)

    def rsqrt(self, x: Value) -> Value:
        return self._same_shape("rsqrt", x)

    def sqrt(self, x: Value) -> Value:
        return self._same_shape("sqrt", x)

    def constant(self, value: float) -> Value:
        return self._op("constant", {}, (), value=value)

    def mean(self, x: Value) -> Value:
        return self._op("mean", operands("mean", x=x), (*x.shape[:-1], 1))

    def softmax(self, x: Value) -> Value:
        return self._same_shape("softmax", x)

    def matmul(self, x: Value, y: Value) -> Value:
        inputs = operands("matmul", x=x, y=y)
        if x.shape[-1] != y.shape[-2]:
            raise ValueError(f"matmul: expected {x.shape[-1]} rows in the second matrix, found shape {y.shape}")
        stacked = broadcast(x.shape[:-2], y.shape[:-2])
        return self._op("matmul", inputs, (*stacked, x.shape[-2], y.shape[-1]))

    def reshape(self, x: Value, shape: Sequence[int | str]) -> Value:
        return self._op("reshape", operands("reshape", x=x), reshaped(x.shape, shape), shape=tuple(shape))

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        return self._op(
            "transpose", operands("transpose", x=x), tuple(x.shape[axis] for axis in axes), axes=tuple(axes)
        )

    def slice(self, x: Value, start: int, stop: int) -> Value:
        inputs = operands("slice", x=x)
        if not 0 <= start < stop <= known(x.shape[-1]):
            raise ValueError(f"slice: expected 0 <= start < stop <= {x.shape[-1]}, found {start} and {stop}")
        return self._op("slice", inputs, (*x.shape[:-1], stop - start), start=start, stop=stop)

    def concat(self, values: Sequence[Value]) -> Value:
        inputs = operands("concat", **{f"x{i}": x for i, x in enumerate(values)})
        if len({x.shape[:-1] for x in values}) != 1:
            raise ValueError(f"concat: expected shapes that differ in the last axis, found {[x.shape for x in values]}")
        return self._op("concat", inputs, (*values[0].shape[:-1], sum(known(x.shape[-1]) for x in values)))

    def take(self, x: Value, rows: Sequence[int]) -> Value:
        inputs = operands("take", x=x)
        check_taken(x, rows)
        return self._op("take", inputs, (x.shape[0], len(rows), x.shape[2]), rows=tuple(rows))

    def rows(self, table: Value, x: Value) -> Value:
        position = self._decoder.position if self._decoder else None
        inputs = operands("rows", table=table, x=x, position=position)
        return self._op("rows", inputs, (x.shape[1], table.shape[1]))

    def state(self, name: str) -> Value:
        key = f"{self._layer}.{name}"
        if key not in self._inputs:
            raise ValueError(
                f"there is no buffer '{name}' for this layer: the graphs of this family have buffers for those that "
                "`states` declares, if they have any"
            )
        return self._inputs[key]

    def read(self, state: Value) -> Value:
        return self._op("read", {"state": state}, state.shape, state.dtype)

    def write(self, state: Value, x: Value) -> None:
        if x.shape != state.shape:
            raise ValueError(f"write: expected the shape of the buffer, {state.shape}, found {x.shape}")
        self._record("write", {"state": state, "x": x}, ())

    # --- layers

    def call(self, kind: str, otherwise: Callable[..., Value], /, *values: Value, **attributes: Any) -> Value:
        if kind in vars(Ops) or kind in ATTENTION:
            raise ValueError(f"call: '{kind}' is an operation that every backend has; give this one another name")
        ops, weights = [*self._ops], dict(self._weights)
        value = otherwise(self, *values, **attributes)
        if kind not in self._kinds:
            return value
        if any(op.kind in ATTENTION for op in self._ops[len(ops) :]):
            raise ValueError(f"call: '{kind}' is one op of this backend, and cannot contain an attention")
        self._ops, self._weights = ops, weights  # the primitives were recorded for the shape alone
        return self._op(kind, {f"x{i}": x for i, x in enumerate(values)}, value.shape, value.dtype, **attributes)

    def begin(self, path: str | None) -> None:
        """Attributes the ops that follow to the layer at `path`; None is no layer."""
        self._layer = path

    def layer_output(self, path: str, x: Value) -> None:
        self._layers[path] = x

    # --- recording

    def _elementwise(self, kind: str, x: Value, y: Value) -> Value:
        return self._op(kind, operands(kind, x=x, y=y), broadcast(x.shape, y.shape))

    def _same_shape(self, kind: str, x: Value, **attributes: Any) -> Value:
        return self._op(kind, operands(kind, x=x), x.shape, **attributes)

    def _op(
        self,
        kind: str,
        inputs: Mapping[str, Value],
        shape: tuple[Dim, ...],
        dtype: str = "float32",
        /,
        **attributes: Any,
    ) -> Value:
        """Records an op with one output, and returns that."""
        value = Value(shape, dtype)
        self._record(kind, inputs, (value,), **attributes)
        return value

    def _record(self, kind: str, inputs: Mapping[str, Value], outputs: tuple[Value, ...], /, **attributes: Any) -> None:
        layers = (self._layer,) if self._layer else ()
        self._ops.append(Op(kind, inputs, outputs, attributes, layers))
