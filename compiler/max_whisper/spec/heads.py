"""What the two kinds of attention have in common."""

from __future__ import annotations

from max_whisper.spec.layer import Layer, TensorSpec


def check_heads(layer: Layer, heads: int, width: int) -> None:
    """Raises SpecError unless `heads` divides `width`; suggests the nearest number that does."""
    if width % heads:
        divisors = (n for n in range(1, min(width, 4096) + 1) if width % n == 0)
        best = min(divisors, key=lambda n: (abs(n - heads), n))
        raise layer.error(f"expected a divisor of the width {width}, got {heads}; did you mean {best}?", "heads")


def projections(layer: Layer, prefix: str, width: int) -> list[TensorSpec]:
    """The q, k, v and out projections below `prefix`; Whisper's k projection has no bias."""
    return [
        layer.matrix(f"{prefix}.q_proj.weight", width, width),
        layer.tensor(f"{prefix}.q_proj.bias", width),
        layer.matrix(f"{prefix}.k_proj.weight", width, width),
        layer.matrix(f"{prefix}.v_proj.weight", width, width),
        layer.tensor(f"{prefix}.v_proj.bias", width),
        layer.matrix(f"{prefix}.out_proj.weight", width, width),
        layer.tensor(f"{prefix}.out_proj.bias", width),
    ]
