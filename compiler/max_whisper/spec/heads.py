"""The heads and projections that both kinds of attention have."""

from __future__ import annotations

from max_whisper.spec.layer import Layer, TensorSpec
from max_whisper.spec.ops import Ops, Value

PROJECTIONS = {"q_proj": True, "k_proj": False, "v_proj": True, "out_proj": True}
"""The projections of an attention, and whether each has a bias: that of the keys has none in Whisper."""


def check_heads(layer: Layer, heads: int, width: int) -> None:
    """Raises SpecError unless `heads` divides `width`; suggests the nearest number that does."""
    if width % heads:
        divisors = (n for n in range(1, min(width, 4096) + 1) if width % n == 0)
        best = min(divisors, key=lambda n: (abs(n - heads), n))
        raise layer.error(f"expected a divisor of the width {width}, got {heads}; did you mean {best}?", "heads")


def projections(layer: Layer, prefix: str, width: int) -> list[TensorSpec]:
    """Returns the tensors of all PROJECTIONS, whose names begin with `prefix`."""
    tensors = []
    for name, has_bias in PROJECTIONS.items():
        tensors.append(layer.matrix(f"{prefix}.{name}.weight", width, width))
        if has_bias:
            tensors.append(layer.tensor(f"{prefix}.{name}.bias", width))
    return tensors


def project(ops: Ops, x: Value, prefix: str, name: str) -> Value:
    """Returns the projection of `x` that PROJECTIONS calls `name`, with the tensors below `prefix`."""
    weight = ops.weight(f"{prefix}.{name}.weight")
    return ops.linear(x, weight, ops.weight(f"{prefix}.{name}.bias") if PROJECTIONS[name] else None)
