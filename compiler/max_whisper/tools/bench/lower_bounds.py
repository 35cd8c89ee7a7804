"""Computes lower bounds of a model's times on a machine: products and weights at the machine's peak rates."""

from __future__ import annotations

from max_whisper.spec import Spec
from max_whisper.spec.counts import cross_kv_size, self_kv_size, weights_read
from max_whisper.tensors.dtypes import BUILD_DTYPES, DTYPES
from max_whisper.tools.bench.peak_rates import PeakRates

PROMPT_LENGTH = 4  # start, language, task and no-timestamps; that of an English-only model is shorter


def lower_bounds(spec: Spec, peak_rates: PeakRates, batch: int, n_tokens: int) -> dict[str, dict[str, float]]:
    """Returns the lower bound of each phase of a batch of windows in milliseconds, for each dtype with a peak rate.

    Weights are read once for all windows of a batch, KV caches once for each window. What the caches of the CPU hold
    counts as read from memory.
    """
    return {
        dtype: _lower_bound(spec, peak_rates, dtype, batch, n_tokens) for dtype in BUILD_DTYPES if dtype in peak_rates
    }


def _lower_bound(spec: Spec, peak_rates: PeakRates, dtype: str, batch: int, n_tokens: int) -> dict[str, float]:
    flops_per_ms, bytes_per_ms = peak_rates[dtype] * 1e6, peak_rates["memory"] * 1e6
    element_bytes = DTYPES[dtype].bytes

    def at_least(flops: float, elements: float) -> float:
        """Returns the milliseconds of the products, or of reading the elements if that takes longer."""
        return max(flops / flops_per_ms, elements * element_bytes / bytes_per_ms)

    encoder_flops = sum(node.flops_per_window for node in spec.encoder.nodes)
    encoder_weights = sum(tensor.size for node in spec.encoder.walk() for tensor in node.tensors)
    per_window, per_token = weights_read(spec)
    cross, per_position = cross_kv_size(spec), self_kv_size(spec)

    def token(position: int) -> float:
        """Returns the milliseconds of the token at a position."""
        caches = batch * (cross + per_position * position)
        return at_least(batch * spec.flops_per_token(position), per_token + caches)

    encoder = at_least(batch * encoder_flops, encoder_weights)
    cross_kv = at_least(batch * (spec.flops_per_window() - encoder_flops), per_window - encoder_weights)
    prompt = sum(spec.flops_per_token(position) for position in range(PROMPT_LENGTH))
    first = cross_kv + at_least(batch * prompt, per_token + batch * cross)
    later_tokens = [token(PROMPT_LENGTH + i) for i in range(n_tokens - 1)]
    return {
        "encoder": encoder,
        "first": first,
        "token": sum(later_tokens) / len(later_tokens),
        "total": encoder + first + sum(later_tokens),
    }
