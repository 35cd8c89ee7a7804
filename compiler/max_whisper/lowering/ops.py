"""The layers' operations in MAX Graph, by MAX's own ops: what a GPU runs, and what cpu.py has better ones for.

`GraphOps` computes whole sequences at once: the encoder, and the keys and values of its features. `StepOps` continues a
sequence over key/value caches. The idioms are those that MAX turns into its fast kernels: matrix products on
transposed external weights, and `softmax((q @ k^T) * scale) @ v` in that order, which becomes one flash attention
kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, DeviceRef, Dim, Graph, TensorValue, Weight, ops

from max_whisper.lowering.selection import filtered, probability, sampled
from max_whisper.lowering.storage import Stored

KeysValues = tuple[TensorValue, TensorValue]  # [batch, heads, length, channels of a head] each

Value: TypeAlias = Any  # a TensorValue, or what a subclass computes later
DTYPES = {name: DType[name] for name in ("float32", "float16", "bfloat16", "int8")}

ACTIVATIONS: Mapping[str, Callable[[TensorValue], TensorValue]] = {
    "gelu": ops.gelu,  # MAX's default is the exact erf form
    "gelu_tanh": lambda x: ops.gelu(x, approximate="tanh"),
    "relu": ops.relu,
    "silu": ops.silu,
}


@dataclass(frozen=True)
class Matrix:
    """The weights of a matrix product, as the graph reads them."""

    stored: Stored
    values: TensorValue
    scales: TensorValue | None  # float32 [2, out], of int8 values


class GraphOps:
    """Operations on [batch, length, channels] activations that start at position 0.

    Activations, normalisation and softmax are float32. Where the weights are bfloat16, the operands of matrix
    products are rounded to bfloat16 and their results are float32 again.
    """

    def __init__(
        self,
        tensors: Mapping[str, Stored],
        *,
        device: DeviceRef,
        taps: dict[str, TensorValue] | None = None,
        memory: Sequence[KeysValues] = (),
    ) -> None:
        """`tensors` are all that an artifact has; `memory` the keys and values of each cross-attention in order.

        The output of each layer is put into `taps`, if there is such a thing, under the layer's path.
        """
        self._tensors = tensors
        self._values: dict[str, TensorValue] = {}
        self._device = device
        self._memory = iter(memory)
        self._taps = taps
        self.queries: list[TensorValue] = []  # of each cross-attention so far

    def weight(self, name: str) -> Matrix | TensorValue:
        stored = self._tensors[name]
        values = self._weight(name, stored.dtype, stored.shape)
        if not stored.tensor.matrix:
            return values
        scales = self._weight(stored.scales, "float32", stored.scales_shape) if stored.scales else None
        return Matrix(stored, values, scales)

    def _weight(self, name: str, dtype: str, shape: Sequence[int]) -> TensorValue:
        if name not in self._values:  # a graph takes a weight once
            weight = Weight(name, DTYPES[dtype], list(shape), self._device)
            # By default MAX expects weights in the host's memory and copies them at each execution.
            self._values[name] = Graph.current.add_weight(weight, force_initial_weight_on_host=False)
        return self._values[name]

    def value(self, x: Value) -> TensorValue:
        """What an operation gave, as a tensor of the graph."""
        tensor: TensorValue = x
        return tensor

    def conv1d(self, x: Value, weight: Matrix, bias: TensorValue | None, *, stride: int, padding: int) -> Value:
        """As a matrix product over the rows that each output sees, side by side: [batch, length, in * kernel].

        MAX's own convolution runs no faster and takes three times as long to compile.
        """
        out, channels, kernel = weight.stored.tensor.shape
        batch, length = int(x.shape[0]), int(x.shape[1])
        x = ops.pad(x, [0, 0, padding, padding, 0, 0])
        rows = (length + 2 * padding - kernel) // stride + 1
        seen = [x[:, i : i + (rows - 1) * stride + 1 : stride, :] for i in range(kernel)]
        patches = ops.reshape(ops.stack(seen, axis=-1), [batch, rows, channels * kernel])
        return self._product(patches, ops.reshape(weight.values, [out, channels * kernel]), bias)

    def linear(self, x: Value, weight: Matrix, bias: TensorValue | None) -> Value:
        return self._product(x, weight.values, bias)

    def _product(self, x: TensorValue, weights: TensorValue, bias: TensorValue | None) -> TensorValue:
        y = ops.matmul(x.cast(weights.dtype), ops.transpose(weights, 0, 1)).cast(DType.float32)
        return y if bias is None else y + bias

    def layernorm(self, x: Value, weight: TensorValue, bias: TensorValue, *, eps: float) -> Value:
        return ops.layer_norm(x, weight, bias, eps)

    def activation(self, x: Value, function: str) -> Value:
        return ACTIVATIONS[function](x)

    def embedding(self, tokens: TensorValue, table: Matrix) -> Value:
        rows = ops.gather(table.values, tokens, axis=0).cast(DType.float32)
        if table.scales is None:
            return rows
        return rows * ops.unsqueeze(ops.gather(table.scales[0, :], tokens, axis=0), -1)

    def positions(self, x: Value, table: TensorValue) -> Value:
        return x + table[(slice(0, length_of(x)), x.shape[1]), :]

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        if causal:
            raise NotImplementedError("causal attention needs caches: see StepOps")
        return attend(split(q, heads), split(k, heads), split(v, heads))

    def cross_attention(self, q: Value, *, heads: int) -> Value:
        self.queries.append(q)
        keys, values = next(self._memory)
        return attend(split(q, heads), keys, values)

    def add(self, x: Value, y: Value) -> Value:
        return x + y

    def split(self, x: Value, heads: int, dtype: DType) -> TensorValue:
        """[batch, length, channels] -> [batch, heads, length, channels of a head], as attention over it reads it."""
        return split(x, heads).cast(dtype)

    def logits(self, x: Value, table: Matrix) -> Value:
        return self.linear(x, table, None)

    def begin(self, path: str) -> None:
        """What a layer is called makes no difference to its operations."""

    def tap(self, path: str, x: Value) -> None:
        if self._taps is not None:
            self._taps[path] = self.value(x)

    def _causal_mask(self, rows: TensorValue, n_rows: Dim, first: TensorValue, n_keys: Dim) -> TensorValue:
        """Float32 [rows, keys]: 0 where key <= first + row, else -inf."""
        row = ops.range(first, first + rows, one(), out_dim=n_rows, dtype=DType.int64, device=self._device)
        key = ops.range(zero(), first + rows, one(), out_dim=n_keys, dtype=DType.int64, device=self._device)
        seen = ops.unsqueeze(key, 0) <= ops.unsqueeze(row, 1)
        return ops.where(seen, *(ops.constant(x, DType.float32, device=self._device) for x in (0.0, -math.inf)))


class StepOps(GraphOps):
    """Operations on the tokens at `position` and after, whose past is in `caches`.

    Each cache is a float32 buffer [batch, heads, n_text_ctx, channels of a head], keys and values in turn, layer by
    layer. Logits are computed for the tokens from `first_scored` on, or, without it, for all.
    """

    def __init__(
        self,
        *args: Any,
        position: TensorValue,
        first_scored: TensorValue | None,
        caches: Sequence[BufferValue],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._position = position
        self._first_scored = first_scored
        self._caches = iter(caches)

    def positions(self, x: Value, table: TensorValue) -> Value:
        rows = (slice(self._position, self._position + length_of(x)), x.shape[1])
        return x + table[rows, :]

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        length, end, n_keys = q.shape[1], self._position + length_of(q), Dim("n_keys")
        past = []
        for new in (k, v):
            cache = next(self._caches)
            ops.buffer_store_slice(cache, split(new, heads), [..., (slice(self._position, end), length), slice(None)])
            past.append(cache[:, :, (slice(zero(), end), n_keys), :])
        mask = self._causal_mask(length_of(q), length, self._position, n_keys)
        return attend(split(q, heads), past[0], past[1], mask)

    def logits(self, x: Value, table: Matrix) -> Value:
        return super().logits(self._scored(x), table)

    def select(
        self, logits: Value, mask: TensorValue, allowed: TensorValue, noise: TensorValue
    ) -> tuple[TensorValue, TensorValue]:
        """The token that comes next and its log-probability, [batch, 1] (selection.py), by the last row of logits."""
        last = self.value(logits)[:, -1, :]
        return sampled(filtered(last, mask, allowed), noise)

    def probability(self, logits: Value, token: TensorValue) -> TensorValue:
        """Of a token, an int64 scalar on the host, by the first row of logits, [batch, 1]."""
        return probability(self.value(logits)[:, 0, :], token)

    def _scored(self, x: TensorValue) -> TensorValue:
        """The rows that logits are wanted for."""
        if self._first_scored is None:
            return x
        return x[:, (slice(self._first_scored, length_of(x)), Dim("n_scored")), :]


def split(x: TensorValue, heads: int) -> TensorValue:
    """[batch, length, channels] -> [batch, heads, length, channels of a head]."""
    batch, length, channels = x.shape
    return ops.permute(ops.reshape(x, [batch, length, heads, int(channels) // heads]), [0, 2, 1, 3])


def attend(q: TensorValue, k: TensorValue, v: TensorValue, mask: TensorValue | None = None) -> TensorValue:
    """softmax(q k^T / sqrt(width) + mask) v of split heads, merged: [batch, length, channels]."""
    batch, heads, length, width = q.shape
    scores = scaled_products(q, k)
    y = ops.softmax(scores if mask is None else scores + mask) @ v
    return ops.reshape(ops.permute(y, [0, 2, 1, 3]), [batch, length, int(heads) * int(width)])


def scaled_products(q: TensorValue, k: TensorValue) -> TensorValue:
    """q k^T / sqrt(width) of split heads, [batch, heads, length of q, length of k]."""
    return (q @ ops.transpose(k, 2, 3)) * int(q.shape[-1]) ** -0.5


def attention_scores(q: TensorValue, keys: TensorValue, *, heads: Sequence[int]) -> TensorValue:
    """What some heads of a cross-attention see, before the softmax: [batch, some heads, length, n_keys].

    q: [batch, length, channels]. keys: [batch, all heads, n_keys, channels of a head].
    """
    chosen = ops.constant(np.array(heads), DType.int64, device=q.device)
    return ops.gather(scaled_products(split(q, int(keys.shape[1])), keys), chosen, axis=1)


def length_of(x: TensorValue) -> TensorValue:
    """The length of [batch, length, channels] as an int64 scalar on the host, where slices need it."""
    return ops.shape_to_tensor([x.shape[1]])[0]


def zero() -> TensorValue:
    return ops.constant(0, DType.int64, device=DeviceRef.CPU())


def one() -> TensorValue:
    return ops.constant(1, DType.int64, device=DeviceRef.CPU())
