"""The layers' operations in MAX Graph.

`GraphOps` computes whole sequences at once: the encoder, and the teacher-forced decoder. `StepOps` continues a
sequence over key/value caches. The idioms are those that MAX turns into its fast CPU kernels: matrix products on
transposed external weights, `softmax((q @ k^T) * scale) @ v` in that order, which becomes one flash attention
kernel, and a two-dimensional convolution of height 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, DeviceRef, Dim, Graph, TensorType, TensorValue, Weight, ops

KeysValues = tuple[TensorValue, TensorValue]  # [batch, heads, length, channels of a head] each

ACTIVATIONS: Mapping[str, Callable[[TensorValue], TensorValue]] = {
    "gelu": ops.gelu,  # MAX's default is the exact erf form
    "gelu_tanh": lambda x: ops.gelu(x, approximate="tanh"),
    "relu": ops.relu,
    "silu": ops.silu,
}


class GraphOps:
    """Operations on [batch, length, channels] activations that start at position 0.

    Activations, normalisation and softmax are float32. Where the weights are bfloat16, the operands of matrix
    products are rounded to bfloat16 and their results are float32 again.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        *,
        dtype: DType,
        device: DeviceRef,
        taps: dict[str, TensorValue],
        memory: Sequence[KeysValues] = (),
    ) -> None:
        """`shapes` are those of all weights; `memory` the keys and values of each cross-attention in order.

        The output of each layer is put into `taps` under the layer's path.
        """
        self._weights = {name: Weight(name, dtype, list(shape), device) for name, shape in shapes.items()}
        self._values: dict[str, TensorValue] = {}
        self._dtype = dtype
        self._device = device
        self._memory = iter(memory)
        self._taps = taps
        self.queries: list[TensorValue] = []  # of each cross-attention so far

    def weight(self, name: str) -> TensorValue:
        if name not in self._values:  # a graph takes a weight once
            self._values[name] = Graph.current.add_weight(self._weights[name])
        return self._values[name]

    def conv1d(
        self, x: TensorValue, weight: TensorValue, bias: TensorValue | None, *, stride: int, padding: int
    ) -> TensorValue:
        """As a matrix product over the rows that each output sees, side by side: [batch, length, in * kernel].

        MAX's own convolution runs no faster and takes three times as long to compile.
        """
        out, channels, kernel = (int(dim) for dim in weight.shape)
        batch, length = int(x.shape[0]), int(x.shape[1])
        x = ops.pad(x, [0, 0, padding, padding, 0, 0])
        rows = (length + 2 * padding - kernel) // stride + 1
        seen = [x[:, i : i + (rows - 1) * stride + 1 : stride, :] for i in range(kernel)]
        patches = ops.reshape(ops.stack(seen, axis=-1), [batch, rows, channels * kernel])
        return self.linear(patches, ops.reshape(weight, [out, channels * kernel]), bias)

    def linear(self, x: TensorValue, weight: TensorValue, bias: TensorValue | None) -> TensorValue:
        return self._biased(ops.matmul(x.cast(self._dtype), ops.transpose(weight, 0, 1)), bias)

    def _biased(self, y: TensorValue, bias: TensorValue | None) -> TensorValue:
        y = y.cast(DType.float32)
        return y if bias is None else y + bias.cast(DType.float32)

    def layernorm(self, x: TensorValue, weight: TensorValue, bias: TensorValue, *, eps: float) -> TensorValue:
        return ops.layer_norm(x, weight.cast(DType.float32), bias.cast(DType.float32), eps)

    def activation(self, x: TensorValue, function: str) -> TensorValue:
        return ACTIVATIONS[function](x)

    def embedding(self, tokens: TensorValue, table: TensorValue) -> TensorValue:
        return ops.gather(table, tokens, axis=0).cast(DType.float32)

    def positions(self, x: TensorValue, table: TensorValue) -> TensorValue:
        length = x.shape[1]
        return x + table[(slice(0, length_of(x)), length), :].cast(DType.float32)

    def self_attention(
        self, q: TensorValue, k: TensorValue, v: TensorValue, *, heads: int, causal: bool
    ) -> TensorValue:
        if causal:
            raise NotImplementedError("causal attention needs caches: see StepOps")
        return attend(split(q, heads), split(k, heads), split(v, heads))

    def cross_attention(self, q: TensorValue, *, heads: int) -> TensorValue:
        self.queries.append(q)
        return self._attend_memory(q, *next(self._memory), heads=heads)

    def _attend_memory(self, q: TensorValue, keys: TensorValue, values: TensorValue, *, heads: int) -> TensorValue:
        return attend(split(q, heads), keys, values)

    def add(self, x: TensorValue, y: TensorValue) -> TensorValue:
        return x + y

    def logits(self, x: TensorValue, table: TensorValue) -> TensorValue:
        return self.linear(x, table, None)

    def tap(self, path: str, x: TensorValue) -> None:
        self._taps[path] = x

    def _causal_mask(self, rows: TensorValue, n_rows: Dim, first: TensorValue, n_keys: Dim) -> TensorValue:
        """Float32 [rows, keys]: 0 where key <= first + row, else -inf."""
        row = ops.range(first, first + rows, one(), out_dim=n_rows, dtype=DType.int64, device=self._device)
        key = ops.range(zero(), first + rows, one(), out_dim=n_keys, dtype=DType.int64, device=self._device)
        seen = ops.unsqueeze(key, 0) <= ops.unsqueeze(row, 1)
        return ops.where(seen, *(ops.constant(x, DType.float32, device=self._device) for x in (0.0, -math.inf)))


class StepOps(GraphOps):
    """Operations on the tokens at `position` and after, whose past is in `caches`.

    Each cache is a float32 buffer [batch, heads, n_text_ctx, channels of a head], keys and values in turn, layer by
    layer. Logits are computed for the tokens from `first_scored` on: for the last one alone when decoding.
    """

    def __init__(
        self,
        *args: Any,
        position: TensorValue,
        first_scored: TensorValue,
        caches: Sequence[BufferValue],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._position = position
        self._first_scored = first_scored
        self._caches = iter(caches)

    def positions(self, x: TensorValue, table: TensorValue) -> TensorValue:
        rows = (slice(self._position, self._position + length_of(x)), x.shape[1])
        return x + table[rows, :].cast(DType.float32)

    def self_attention(
        self, q: TensorValue, k: TensorValue, v: TensorValue, *, heads: int, causal: bool
    ) -> TensorValue:
        if self._on_cpu:
            caches = [next(self._caches), next(self._caches)]
            return self._kernel("attention_over_cache", q, [q, k, v, *caches, self._position])
        length, end, n_keys = q.shape[1], self._position + length_of(q), Dim("n_keys")
        past = []
        for new in (k, v):
            cache = next(self._caches)
            ops.buffer_store_slice(cache, split(new, heads), [..., (slice(self._position, end), length), slice(None)])
            past.append(cache[:, :, (slice(zero(), end), n_keys), :])
        mask = self._causal_mask(length_of(q), length, self._position, n_keys)
        return attend(split(q, heads), past[0], past[1], mask)

    def _attend_memory(self, q: TensorValue, keys: TensorValue, values: TensorValue, *, heads: int) -> TensorValue:
        if self._on_cpu:
            return self._kernel("attention_over_memory", q, [q, keys, values])
        return super()._attend_memory(q, keys, values, heads=heads)

    def linear(self, x: TensorValue, weight: TensorValue, bias: TensorValue | None) -> TensorValue:
        if not self._on_cpu:
            return super().linear(x, weight, bias)
        values = [x, weight, ops.reshape(weight, [-1]) if bias is None else bias]
        return self._kernel("skinny_linear", x, values, width=weight.shape[0], has_bias=bias is not None)

    @property
    def _on_cpu(self) -> bool:
        """Where our own kernels are used (kernels/): a step has few rows, and what it reads is what it costs."""
        return bool(self._device == DeviceRef.CPU())

    def _kernel(
        self,
        name: str,
        x: TensorValue,
        values: Sequence[TensorValue | BufferValue],
        width: Dim | None = None,
        **parameters: bool,
    ) -> TensorValue:
        """The output of a kernel, float32 in the shape of x, or of another width."""
        shape = [*x.shape[:-1], x.shape[-1] if width is None else width]
        out_type = TensorType(DType.float32, shape, self._device)
        custom = ops.inplace_custom if any(isinstance(value, BufferValue) for value in values) else ops.custom
        (y,) = custom(name, self._device, values, [out_type], parameters=parameters)
        return y.tensor

    def logits(self, x: TensorValue, table: TensorValue) -> TensorValue:
        scored = (slice(self._first_scored, length_of(x)), Dim("n_scored"))
        return super().logits(x[:, scored, :], table)


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
    if q.device != DeviceRef.CPU():
        return ops.gather(scaled_products(split(q, int(keys.shape[1])), keys), chosen, axis=1)
    out_type = TensorType(DType.float32, [q.shape[0], len(heads), q.shape[1], keys.shape[2]], q.device)
    (scores,) = ops.custom("attention_scores", q.device, [q, keys, chosen], [out_type])
    return scores.tensor


def length_of(x: TensorValue) -> TensorValue:
    """The length of [batch, length, channels] as an int64 scalar on the host, where slices need it."""
    return ops.shape_to_tensor([x.shape[1]])[0]


def zero() -> TensorValue:
    return ops.constant(0, DType.int64, device=DeviceRef.CPU())


def one() -> TensorValue:
    return ops.constant(1, DType.int64, device=DeviceRef.CPU())
