"""The one `ops` that layers see: it records each op, with its shape and the layer that asked for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from max_whisper.lowering.ops import Dim, Input, Op, Program, Value
from max_whisper.spec.ops import Ops, conv1d_length
from max_whisper.tensors.stored import StoredTensor

KeysValues = tuple[Value, Value]  # [batch, heads, length, channels of a head] each


@dataclass
class DecoderContext:
    """The inputs of a decoder's graph that its layers read, besides the tokens, and the queries that they compute."""

    position: Value  # of the first token, an int64 scalar on the host
    caches: Iterable[KeysValues]  # the KV cache of each self-attention, in order
    cross: Iterable[KeysValues]  # the keys and values of the features for each cross-attention, in order
    logits_from: Value | None = None  # the first token that logits are computed for; None is the first of all
    queries: list[Value] = field(default_factory=list)  # of each cross-attention, in order, appended as it is recorded

    def __post_init__(self) -> None:
        self.caches, self.cross = iter(self.caches), iter(self.cross)


class Builder(Ops):
    """Records one program. Its methods are those of `Ops`, and a few that only the graphs of a family call."""

    def __init__(
        self,
        tensors: Mapping[str, StoredTensor],
        kinds: Collection[str],
        inputs: Mapping[str, Input],
        decoder: DecoderContext | None = None,
    ) -> None:
        """Starts an empty program.

        tensors: all of the artifact, by name. kinds: the ops that the target has emitters for. inputs: those of the
        graph, by name. decoder: None for a graph without positions and caches.
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
        if name not in self._weights:  # a graph takes a weight once
            tensor = self._tensors[name]
            self._weights[name] = self._op("weight", {}, tuple(tensor.shape), tensor.dtype, tensor=tensor)
        return self._weights[name]

    def conv1d(self, x: Value, weight: Value, bias: Value | None, *, stride: int, padding: int) -> Value:
        out, _, kernel = weight.shape
        length = conv1d_length(_fixed(x.shape[1]), _fixed(kernel), stride=stride, padding=padding)
        inputs = _present(x=x, weight=weight, bias=bias)
        return self._op("conv1d", inputs, (x.shape[0], length, out), stride=stride, padding=padding)

    def linear(self, x: Value, weight: Value, bias: Value | None) -> Value:
        return self._op("linear", _present(x=x, weight=weight, bias=bias), (*x.shape[:-1], weight.shape[0]))

    def layernorm(self, x: Value, weight: Value, bias: Value, *, eps: float) -> Value:
        return self._op("layernorm", {"x": x, "weight": weight, "bias": bias}, x.shape, eps=eps)

    def activation(self, x: Value, function: str) -> Value:
        return self._op("activation", {"x": x}, x.shape, function=function)

    def embedding(self, tokens: Value, table: Value) -> Value:
        return self._op("embedding", {"tokens": tokens, "table": table}, (*tokens.shape, table.shape[1]))

    def positions(self, x: Value, table: Value) -> Value:
        position = self._decoder.position if self._decoder else None
        return self._op("positions", _present(x=x, table=table, position=position), x.shape)

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        inputs = {"q": q, "k": k, "v": v}
        if not causal:
            return self._op("attention", inputs, q.shape, heads=heads)
        if self._decoder is None:
            raise ValueError("causal attention needs a KV cache: it is for decoders")
        keys, values = next(iter(self._decoder.caches))
        inputs |= {"key_cache": keys, "value_cache": values, "position": self._decoder.position}
        return self._op("cached_attention", inputs, q.shape, heads=heads)

    def cross_attention(self, q: Value, *, heads: int) -> Value:
        if self._decoder is None:
            raise ValueError("cross-attention needs the encoder's features: it is for decoders")
        self._decoder.queries.append(q)
        keys, values = next(iter(self._decoder.cross))
        return self._op("cross_attention", {"q": q, "keys": keys, "values": values}, q.shape, heads=heads)

    def add(self, x: Value, y: Value) -> Value:
        return self._elementwise("add", x, y)

    def logits(self, x: Value, table: Value) -> Value:
        if self._decoder and self._decoder.logits_from:
            shape = (x.shape[0], "n_scored", *x.shape[2:])
            x = self._op("rows_from", {"x": x, "first": self._decoder.logits_from}, shape)
        return self._op("logits", {"x": x, "table": table}, (*x.shape[:-1], table.shape[0]))

    # --- primitives

    def sub(self, x: Value, y: Value) -> Value:
        return self._elementwise("sub", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self._elementwise("mul", x, y)

    def div(self, x: Value, y: Value) -> Value:
        return self._elementwise("div", x, y)

    def exp(self, x: Value) -> Value:
        return self._op("exp", {"x": x}, x.shape)

    def tanh(self, x: Value) -> Value:
        return self._op("tanh", {"x": x}, x.shape)

    def sigmoid(self, x: Value) -> Value:
        return self._op("sigmoid", {"x": x}, x.shape)

    def rsqrt(self, x: Value) -> Value:
        return self._op("rsqrt", {"x": x}, x.shape)

    def constant(self, value: float) -> Value:
        return self._op("constant", {}, (), value=value)

    def mean(self, x: Value) -> Value:
        return self._op("mean", {"x": x}, (*x.shape[:-1], 1))

    def softmax(self, x: Value) -> Value:
        return self._op("softmax", {"x": x}, x.shape)

    def matmul(self, x: Value, y: Value) -> Value:
        if x.shape[-1] != y.shape[-2]:
            raise ValueError(f"matmul: expected {x.shape[-1]} rows in the second matrix, found shape {y.shape}")
        stacked = _broadcast(x.shape[:-2], y.shape[:-2])
        return self._op("matmul", {"x": x, "y": y}, (*stacked, x.shape[-2], y.shape[-1]))

    def reshape(self, x: Value, shape: Sequence[int | str]) -> Value:
        return self._op("reshape", {"x": x}, tuple(shape), shape=tuple(shape))

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        return self._op("transpose", {"x": x}, tuple(x.shape[axis] for axis in axes), axes=tuple(axes))

    def slice(self, x: Value, start: int, stop: int) -> Value:
        if not 0 <= start < stop <= _fixed(x.shape[-1]):
            raise ValueError(f"slice: expected 0 <= start < stop <= {x.shape[-1]}, found {start} and {stop}")
        return self._op("slice", {"x": x}, (*x.shape[:-1], stop - start), start=start, stop=stop)

    def concat(self, values: Sequence[Value]) -> Value:
        last = sum(_fixed(x.shape[-1]) for x in values)
        return self._op("concat", {f"x{i}": x for i, x in enumerate(values)}, (*values[0].shape[:-1], last))

    def rows(self, table: Value, x: Value) -> Value:
        position = self._decoder.position if self._decoder else None
        return self._op("rows", _present(table=table, x=x, position=position), (x.shape[1], table.shape[1]))

    def state(self, name: str) -> Value:
        port = f"{self._layer}.{name}"
        if port not in self._inputs:
            raise ValueError(f"no input '{port}': the graphs of this family have no buffers for the states of layers")
        return self._inputs[port]

    def read(self, state: Value) -> Value:
        return self._op("read", {"state": state}, state.shape, state.dtype)

    def write(self, state: Value, x: Value) -> None:
        if x.shape != state.shape:
            raise ValueError(f"write: expected the shape of the buffer, {state.shape}, found {x.shape}")
        self._record("write", {"state": state, "x": x}, ())

    # --- layers

    def call(self, kind: str, otherwise: Callable[..., Value], /, *values: Value, **attributes: Any) -> Value:
        ops, weights = [*self._ops], dict(self._weights)
        value = otherwise(self, *values, **attributes)
        if kind not in self._kinds:
            return value
        self._ops, self._weights = ops, weights  # the primitives were recorded for their shape alone
        return self._op(kind, {f"x{i}": x for i, x in enumerate(values)}, value.shape, value.dtype, **attributes)

    def begin(self, path: str | None) -> None:
        """Attributes the ops that follow to the layer at `path`; None is no layer."""
        self._layer = path

    def layer_output(self, path: str, x: Value) -> None:
        self._layers[path] = x

    # --- what only the graphs of a family call

    def split_heads(self, x: Value, *, heads: int, dtype: str) -> Value:
        """Returns [batch, heads, length, channels of a head] of [batch, length, channels], as attention reads it."""
        batch, length, channels = x.shape
        shape = (batch, heads, length, _fixed(channels) // heads)
        return self._op("split_heads", {"x": x}, shape, dtype, heads=heads, dtype=dtype)

    def choose_token(self, logits: Value, mask: Value, allowed: Value, noise: Value) -> tuple[Value, Value]:
        """Returns the next token, int64 [batch, 1], and its log-probability, by the last row of logits.

        mask, allowed, noise: see targets/max_selection.py.
        """
        shape = (logits.shape[0], 1)
        token, logprob = Value(shape, "int64"), Value(shape)
        inputs = {"logits": logits, "mask": mask, "allowed": allowed, "noise": noise}
        self._record("choose_token", inputs, (token, logprob))
        return token, logprob

    def token_probability(self, logits: Value, token: Value) -> Value:
        """Returns the probability [batch, 1] of a token, an int64 scalar on the host, by the first row of logits."""
        return self._op("token_probability", {"logits": logits, "token": token}, (logits.shape[0], 1))

    def attention_scores(self, q: Value, keys: Value, *, heads: Sequence[int]) -> Value:
        """Returns the scores of these heads of a cross-attention, before the softmax: [batch, heads, length, n_keys].

        q: [batch, length, channels]. keys: [batch, all heads, n_keys, channels of a head].
        """
        shape = (q.shape[0], len(heads), q.shape[1], keys.shape[2])
        return self._op("attention_scores", {"q": q, "keys": keys}, shape, heads=tuple(heads))

    # --- recording

    def _elementwise(self, kind: str, x: Value, y: Value) -> Value:
        return self._op(kind, {"x": x, "y": y}, _broadcast(x.shape, y.shape))

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


def _present(**values: Value | None) -> dict[str, Value]:
    """Returns the operands by name, without those that are None."""
    return {name: value for name, value in values.items() if value is not None}


def _fixed(dim: Dim) -> int:
    """Returns a dimension as an integer. Raises ValueError for one that varies."""
    if not isinstance(dim, int):
        raise ValueError(f"expected a dimension that is known when the graph is compiled, found '{dim}'")
    return dim


def _broadcast(x: Sequence[Dim], y: Sequence[Dim]) -> tuple[Dim, ...]:
    """Returns the shape of an element-wise result, by numpy's rules. Raises ValueError where there is none."""
    rank = max(len(x), len(y))
    padded = zip([1] * (rank - len(x)) + [*x], [1] * (rank - len(y)) + [*y], strict=True)
    shape: list[Dim] = []
    for one, other in padded:
        if one != other and 1 not in (one, other):
            raise ValueError(f"expected shapes that broadcast, found {tuple(x)} and {tuple(y)}")
        shape.append(other if one == 1 else one)
    return tuple(shape)
