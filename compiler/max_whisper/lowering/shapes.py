"""Checks the operands of ops: they must be values, and their shapes must fit, or a kernel would read beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from max_whisper.lowering.ops import Dim, Value, WeightValue
from max_whisper.spec.ops import LstmWeights

MATRIX_OPERANDS = {"conv1d": ("weight",), "linear": ("weight",), "embedding": ("table",), "logits": ("table",)}
"""The operands that are matrices, by kind of op. Their dtype and layout are up to the backend."""


def operands(kind: str, **values: Value | None) -> dict[str, Value]:
    """Returns the operands of an op by name, without those that are None.

    Raises ValueError for an operand that is no value of the program, and for a matrix where none is expected, or none
    where one is.
    """
    inputs = {name: value for name, value in values.items() if value is not None}
    for name, value in inputs.items():
        if not isinstance(value, Value):
            raise ValueError(f"{kind}: expected a value of the program, found {value!r}; `ops.constant` makes one")
        matrix = isinstance(value, WeightValue) and value.stored.matrix
        expects_matrix = name in MATRIX_OPERANDS.get(kind, ())
        if matrix and not expects_matrix:
            takers = ", ".join(MATRIX_OPERANDS)
            raise ValueError(f"{kind}: '{name}' is a matrix, which only {takers} take; declare it with `self.tensor`")
        if expects_matrix and not matrix:
            raise ValueError(f"{kind}: expected '{name}' to be a matrix; declare it with `self.matrix`")
    return inputs


def check_rows(kind: str, *values: Value) -> None:
    """Raises ValueError unless all values are [batch, length, channels] and have the same shape."""
    for value in values:
        if len(value.shape) != 3:
            raise ValueError(f"{kind}: expected [batch, length, channels], found shape {value.shape}")
        if value.shape != values[0].shape:
            raise ValueError(f"{kind}: expected one shape, found {values[0].shape} and {value.shape}")


def check_product(kind: str, x: Value, weight: Value, bias: Value | None = None) -> None:
    """Raises ValueError unless `x` is [batch, length, in], the weights [out, in, ...] and the bias [out]."""
    check_rows(kind, x)
    check_vector(kind, "bias", bias, weight.shape[0])
    if x.shape[2] != weight.shape[1]:
        raise ValueError(f"{kind}: expected weights for {x.shape[2]} inputs, found shape {weight.shape}")


def check_vector(kind: str, name: str, vector: Value | None, size: Dim) -> None:
    """Raises ValueError unless a vector is None or has `size` elements."""
    if vector is not None and vector.shape != (size,):
        raise ValueError(f"{kind}: expected '{name}' of shape ({size},), found {vector.shape}")


def check_heads(kind: str, q: Value, heads: int) -> None:
    """Raises ValueError unless the number of heads divides the channels."""
    if heads < 1 or known(q.shape[2]) % heads:
        raise ValueError(f"{kind}: expected a number of heads that divides {q.shape[2]} channels, found {heads}")


def check_lstm(x: Value, weights: LstmWeights, hidden: Value, cell: Value) -> None:
    """Raises ValueError unless weights and states are those of one long short-term memory, whose input is `x`."""
    check_rows("lstm", x)
    if len(hidden.shape) != 2 or hidden.shape[0] != 1 or cell.shape != hidden.shape:
        raise ValueError(f"lstm: expected states of one shape [1, channels], found {hidden.shape} and {cell.shape}")
    size = known(hidden.shape[1])
    expected = ((4 * size, x.shape[2]), (4 * size, size), (4 * size,), (4 * size,))
    for part, value, shape in zip(weights._fields, weights, expected, strict=True):
        if value.shape != shape:
            raise ValueError(f"lstm: expected '{part}' of shape {shape}, found {value.shape}")


def check_taken(x: Value, rows: Sequence[int]) -> None:
    """Raises ValueError unless `x` [batch, length, channels] has all of these rows, of which there is at least one."""
    check_rows("take", x)
    if not (rows and min(rows) >= 0 and max(rows) < known(x.shape[1])):
        raise ValueError(f"take: expected rows from 0 to {known(x.shape[1]) - 1}, found {tuple(rows)[:100]}")


def known(dim: Dim) -> int:
    """Returns a dimension that is known when the graph is compiled. Raises ValueError for one that varies."""
    if not isinstance(dim, int):
        raise ValueError(f"expected a dimension that is known when the graph is compiled, found '{dim}'")
    return dim


def broadcast(x: Sequence[Dim], y: Sequence[Dim]) -> tuple[Dim, ...]:
    """Returns the shape of an element-wise result, by numpy's rules. Raises ValueError where there is none."""
    rank = max(len(x), len(y))
    padded = zip([1] * (rank - len(x)) + [*x], [1] * (rank - len(y)) + [*y], strict=True)
    shape: list[Dim] = []
    for one, other in padded:
        if one != other and 1 not in (one, other):
            raise ValueError(f"expected shapes that broadcast, found {tuple(x)} and {tuple(y)}")
        shape.append(other if one == 1 else one)
    return tuple(shape)


def reshaped(x: Sequence[Dim], shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Returns the new shape. Raises ValueError unless it has as many elements and the same dimensions that vary."""
    if _size(x) != _size(shape):
        raise ValueError(f"reshape: expected as many elements as {tuple(x)} has, found {tuple(shape)}")
    return tuple(shape)


def _size(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    """Returns the product of the dimensions that are known, and the names of those that vary."""
    return prod(dim for dim in shape if isinstance(dim, int)), sorted(dim for dim in shape if isinstance(dim, str))
