"""The heads and the projections that both kinds of attention share."""

from __future__ import annotations

from max_whisper.spec.layer import Layer, TensorSpec
from max_whisper.spec.ops import Ops, Value

PROJECTIONS = {"q_proj": True, "k_proj": False, "v_proj": True, "out_proj": True}
"""The projections of an attention layer, and whether each has a bias: that of the keys has none in Whisper."""


def check_heads(layer: Layer, heads: int, channels: int) -> None:
    """Raises a SpecError that suggests the nearest divisor unless `heads` divides `channels`."""
    if channels % heads:
        divisors = (n for n in range(1, min(channels, 4096) + 1) if channels % n == 0)
        best = min(divisors, key=lambda n: (abs(n - heads), n))
        raise layer.error(f"expected a divisor of the {channels} channels, got {heads}; did you mean {best}?", "heads")


def projections(layer: Layer, prefix: str, channels: int) -> list[TensorSpec]:
    """Returns the tensors of all PROJECTIONS, whose names begin with `prefix`."""
    tensors = []
    for name, has_bias in PROJECTIONS.items():
        tensors.append(layer.matrix(f"{prefix}.{name}.weight", channels, channels))
        if has_bias:
            tensors.append(layer.tensor(f"{prefix}.{name}.bias", channels))
    return tensors


def project(ops: Ops, x: Value, prefix: str, name: str) -> Value:
    """Returns the projection `name` of `x`, with the tensors whose names begin with `prefix`."""
    weight = ops.weight(f"{prefix}.{name}.weight")
    return ops.linear(x, weight, ops.weight(f"{prefix}.{name}.bias") if PROJECTIONS[name] else None)
