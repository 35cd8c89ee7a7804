"""The layers' operations by our own kernels (kernels/), for a CPU.

Layer normalisation, bias, activation and residual sum are done by the kernel of the linear layer that they come before
or after: an operation gives a `Normed` or a `Product`, which is not computed before something else wants it. One kernel
computes the queries, keys and values of a self-attention.
`WindowOps` are for many rows at once, `TokenOps` for the few of a decoder step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from max.dtype import DType
from max.graph import BufferValue, DeviceRef, Dim, DimLike, TensorType, TensorValue, ops

from max_whisper.lowering.ops import DTYPES, GraphOps, Matrix, StepOps, Value

HOST = DeviceRef.CPU()


@dataclass(frozen=True)
class Normed:
    """Rows that wait for their layer normalisation."""

    x: TensorValue
    weight: TensorValue
    bias: TensorValue
    eps: float


@dataclass
class Product:
    """A linear layer that waits for what else its kernel can do."""

    x: TensorValue
    norm: Normed | None  # of x, before the product
    weight: Matrix
    bias: TensorValue | None
    rows: DimLike  # of each window of the batch
    step: int | None = None  # numbers from one row to the next; None is a whole row
    before: int = 0  # zeros ahead of the first row
    activation: str = "none"
    residual: TensorValue | None = None
    computed: TensorValue | None = None

    @property
    def waits(self) -> bool:
        """Whether an activation or a sum can still become part of it; the sum comes last."""
        return self.computed is None and self.residual is None


class KernelOps(GraphOps):
    """What both have in common: how operations are joined."""

    def value(self, x: Value) -> TensorValue:
        if isinstance(x, Normed):
            return self._kernel("layer_norm", [x.x, x.weight, x.bias, _float(x.eps)], x.x.shape)
        if not isinstance(x, Product):
            return super().value(x)
        if x.computed is None:
            x.computed = self._compute(x)
        return x.computed

    def linear(self, x: Value, weight: Matrix, bias: TensorValue | None) -> Value:
        norm = x if isinstance(x, Normed) else None
        rows = norm.x if norm else self.value(x)
        return Product(rows, norm, weight, bias, rows.shape[1])

    def layernorm(self, x: Value, weight: TensorValue, bias: TensorValue, *, eps: float) -> Value:
        return Normed(self.value(x), weight, bias, eps)

    def activation(self, x: Value, function: str) -> Value:
        if isinstance(x, Product) and x.waits and x.activation == "none":
            return replace(x, activation=function)
        return super().activation(self.value(x), function)

    def add(self, x: Value, y: Value) -> Value:
        if isinstance(y, Product) and y.waits:
            return replace(y, residual=self.value(x))
        return super().add(self.value(x), self.value(y))

    def _projected(self, kernel: str, q: Value, k: Value, v: Value) -> list[TensorValue]:
        """Queries, keys and values [batch, length, channels]: by one call of the kernel, if it can do these three."""
        if not _are_projections(q, k, v):
            return [self.value(x) for x in (q, k, v)]
        weights = [x.weight for x in (q, k, v)]
        scales = [_or_nothing(weight.scales, 2) for weight in weights]
        operands = [q.x, *[weight.values for weight in weights], *scales, q.bias, v.bias]
        shape = [q.x.shape[0], q.rows, weights[0].stored.tensor.shape[0]]
        types = [TensorType(DType.float32, shape, HOST)] * 3
        norm, eps = _norm_operands(q.norm)
        computed = self._call(kernel, [*operands, *norm, eps], types, has_norm=q.norm is not None)
        for x, y in zip((q, k, v), computed, strict=True):
            x.computed = y
        return computed

    def _compute(self, product: Product) -> TensorValue:
        raise NotImplementedError

    def _kernel(
        self,
        name: str,
        values: Sequence[TensorValue | BufferValue],
        shape: Sequence[DimLike],
        out_dtype: DType = DType.float32,
        **parameters: Any,
    ) -> TensorValue:
        """The one output of a kernel."""
        (y,) = self._call(name, values, [TensorType(out_dtype, [Dim(dim) for dim in shape], HOST)], **parameters)
        return y

    def _call(
        self, name: str, values: Sequence[TensorValue | BufferValue], types: Sequence[TensorType], **parameters: Any
    ) -> list[TensorValue]:
        """The outputs of a kernel: every call of one comes through here."""
        return outputs_of(name, values, types, **parameters)

    def _joined(self, product: Product) -> tuple[list[TensorValue], dict[str, Any]]:
        """Operands and parameters of a kernel for all but rows and weights."""
        norm, eps = _norm_operands(product.norm)
        operands = [
            _or_nothing(product.weight.scales, 2),
            _or_nothing(product.bias, 1),
            *norm,
            _or_nothing(product.residual, 3),
            eps,
        ]
        parameters = {
            "has_norm": product.norm is not None,
            "has_bias": product.bias is not None,
            "has_residual": product.residual is not None,
            "activation": product.activation,
        }
        return operands, parameters


class WindowOps(KernelOps):
    """For the encoder, and the keys and values of its features."""

    def split(self, x: Value, heads: int, dtype: DType) -> TensorValue:
        return self._dense(x, heads, dtype)

    def conv1d(self, x: Value, weight: Matrix, bias: TensorValue | None, *, stride: int, padding: int) -> Value:
        """As a product with the rows that each output sees, which overlap; weights are packed as [out, kernel * in]."""
        x = self.value(x)
        kernel, channels = weight.stored.tensor.shape[2], int(x.shape[2])
        rows = (int(x.shape[1]) + 2 * padding - kernel) // stride + 1
        return Product(x, None, weight, bias, rows, step=stride * channels, before=padding * channels)

    def positions(self, x: Value, table: TensorValue) -> Value:
        return self.add(ops.unsqueeze(table, 0), x)

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        if causal:
            raise NotImplementedError("causal attention needs caches: see StepOps")
        rows = self._projected("dense_projections", q, k, v)
        return self._kernel("dense_attention", [*rows, scalar(heads)], rows[0].shape, dtype=DTYPES[self._packed_dtype])

    @property
    def _packed_dtype(self) -> str:
        """Of the matrices that meet a whole window of rows."""
        return next(stored.dtype for stored in self._tensors.values() if stored.packed)

    def _compute(self, product: Product) -> TensorValue:
        return ops.squeeze(self._dense(product, 1, DType.float32), 1)

    def _dense(self, product: Product, heads: int, dtype: DType) -> TensorValue:
        """[batch, heads, rows, channels of a head]."""
        out, width = product.weight.stored.matrix_shape
        operands, parameters = self._joined(product)
        places = [width, width if product.step is None else product.step, product.before]
        return self._kernel(
            "dense_linear",
            [product.x, product.weight.values, *operands, *map(scalar, places)],
            [product.x.shape[0], heads, product.rows, out // heads],
            dtype,
            **parameters,
        )


@dataclass(frozen=True)
class Embedded:
    """Tokens that wait for their positions."""

    tokens: TensorValue
    table: Matrix


class TokenOps(KernelOps, StepOps):
    """For the decoder."""

    def value(self, x: Value) -> TensorValue:
        if isinstance(x, Embedded):  # in a probe
            return super().embedding(x.tokens, x.table)
        return super().value(x)

    def embedding(self, tokens: TensorValue, table: Matrix) -> Value:
        return Embedded(tokens, table)

    def positions(self, x: Value, table: TensorValue) -> Value:
        if not isinstance(x, Embedded):
            return super().positions(self.value(x), table)
        embedding = x.table
        operands = [x.tokens, embedding.values, _or_nothing(embedding.scales, 2), table, self._position]
        return self._kernel("token_embedding", operands, [*x.tokens.shape, table.shape[1]])

    def self_attention(self, q: Value, k: Value, v: Value, *, heads: int, causal: bool) -> Value:
        rows = self._projected("skinny_projections", q, k, v)
        caches = [next(self._caches), next(self._caches)]
        return self._kernel("attention_over_cache", [*rows, *caches, self._position], rows[0].shape)

    def cross_attention(self, q: Value, *, heads: int) -> Value:
        rows = self.value(q)
        self.queries.append(rows)
        return self._kernel("attention_over_memory", [rows, *next(self._memory)], rows.shape)

    def logits(self, x: Value, table: Matrix) -> Value:
        rows = replace(x, x=self._scored(x.x)) if isinstance(x, Normed) else self._scored(self.value(x))
        return self.linear(rows, table, None)

    def select(
        self, logits: Value, mask: TensorValue, allowed: TensorValue, noise: TensorValue
    ) -> tuple[TensorValue, TensorValue]:
        """Where nothing else wants the logits, they are not even written."""
        types = [TensorType(dtype, [noise.shape[0], 1], HOST) for dtype in (DType.int64, DType.float32)]
        rules = [mask, allowed, noise]
        if isinstance(logits, Product) and logits.computed is None and logits.norm:
            norm, table = logits.norm, logits.weight
            scales = _or_nothing(table.scales, 2)
            operands = [norm.x, table.values, scales, norm.weight, norm.bias, _float(norm.eps), *rules]
            token, logprob = self._call("choose_next_token", operands, types)
        else:
            token, logprob = self._call("choose_token", [self.value(logits), *rules], types)
        return token, logprob

    def probability(self, logits: Value, token: TensorValue) -> TensorValue:
        return self._kernel("token_probability", [self.value(logits), token], [self.value(logits).shape[0], 1])

    def _compute(self, product: Product) -> TensorValue:
        operands, parameters = self._joined(product)
        shape = [product.x.shape[0], product.rows, product.weight.stored.tensor.shape[0]]
        return self._kernel("skinny_linear", [product.x, product.weight.values, *operands], shape, **parameters)


def attention_scores(q: TensorValue, keys: TensorValue, *, heads: Sequence[int]) -> TensorValue:
    """What some heads of a cross-attention see, before the softmax: [batch, some heads, length, n_keys].

    q: [batch, length, channels]. keys: [batch, all heads, n_keys, channels of a head].
    """
    chosen = ops.constant(np.array(heads), DType.int64, device=HOST)
    shape = [q.shape[0], len(heads), q.shape[1], keys.shape[2]]
    (y,) = outputs_of("attention_scores", [q, keys, chosen], [TensorType(DType.float32, shape, HOST)])
    return y


def outputs_of(
    name: str, values: Sequence[TensorValue | BufferValue], types: Sequence[TensorType], **parameters: Any
) -> list[TensorValue]:
    """What a kernel gives."""
    custom = ops.inplace_custom if any(isinstance(value, BufferValue) for value in values) else ops.custom
    return [y.tensor for y in custom(name, HOST, values, types, parameters=parameters)]


def _are_projections(q: Value, k: Value, v: Value) -> bool:
    """Whether these are linear layers of the same rows and nothing else, with a bias of q and v, and none of k."""
    if not all(isinstance(x, Product) and x.waits and x.activation == "none" for x in (q, k, v)):
        return False
    same = all(x.x is q.x and x.norm is q.norm and x.step is None for x in (q, k, v))
    alike = {(x.weight.stored.dtype, x.weight.stored.shape) for x in (q, k, v)}
    return same and len(alike) == 1 and q.bias is not None and k.bias is None and v.bias is not None


def scalar(number: int) -> TensorValue:
    return ops.constant(number, DType.int64, device=HOST)


def _float(number: float) -> TensorValue:
    return ops.constant(number, DType.float32, device=HOST)


def _norm_operands(norm: Normed | None) -> tuple[list[TensorValue], TensorValue]:
    """Weight and bias, and eps."""
    weight, bias = (norm.weight, norm.bias) if norm else (None, None)
    return [_or_nothing(weight, 1), _or_nothing(bias, 1)], _float(norm.eps if norm else 0.0)


def _or_nothing(x: TensorValue | None, rank: int) -> TensorValue:
    """An operand, or one that a kernel does not read."""
    return ops.constant(np.zeros([1] * rank, np.float32), DType.float32, device=HOST) if x is None else x
