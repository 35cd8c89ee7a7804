"""Lower bounds of a model's times on a machine: products at the CPU's peak, weights at the memory's speed."""

from __future__ import annotations

from max_whisper.spec import Spec
from max_whisper.spec.counts import cross_kv_size, self_kv_size, weights_read
from max_whisper.tensors.dtypes import BUILD_DTYPES, DTYPES
from max_whisper.tools.bench.peak_rates import PeakRates

PROMPT = 4  # tokens


def lower_bounds(spec: Spec, peak_rates: PeakRates, batch: int, n_tokens: int) -> dict[str, dict[str, float]]:
    """Returns the least milliseconds of each phase of a batch of windows, for each dtype that has a peak rate.

    peak_rates: GFLOP/s by dtype, and GB/s as "memory". Weights are read once for all windows of a batch; keys and
    values of the cross-attention, and those of the tokens before, for each. What the CPU's
    caches hold counts as read from memory.
    """
    return {
        dtype: _lower_bound(spec, peak_rates, dtype, batch, n_tokens) for dtype in BUILD_DTYPES if dtype in peak_rates
    }


def _lower_bound(spec: Spec, peak_rates: PeakRates, dtype: str, batch: int, n_tokens: int) -> dict[str, float]:
    flops_per_ms, bytes_per_ms = peak_rates[dtype] * 1e6, peak_rates["memory"] * 1e6
    bytes_each = DTYPES[dtype].bytes

    def step(flops: float, elements: float) -> float:
        """Returns the milliseconds of whichever takes longer: the products, or reading the elements."""
        return max(flops / flops_per_ms, elements * bytes_each / bytes_per_ms)

    encoder_flops = sum(node.flops_per_window for node in spec.encoder.nodes)
    encoder_weights = sum(tensor.size for node in spec.encoder.walk() for tensor in node.tensors)
    per_window, per_token = weights_read(spec)
    cross, own = cross_kv_size(spec), self_kv_size(spec)

    def token(position: int) -> float:
        """Returns the milliseconds of a token after `position` others."""
        caches = batch * (cross + own * position)
        return step(batch * spec.flops_per_token(position), per_token + caches)

    encoder = step(batch * encoder_flops, encoder_weights)
    cross_kv = step(batch * (spec.flops_per_window() - encoder_flops), per_window - encoder_weights)
    prompt = sum(spec.flops_per_token(position) for position in range(PROMPT))
    first = cross_kv + step(batch * prompt, per_token + batch * cross)
    others = [token(PROMPT + i) for i in range(n_tokens - 1)]
    return {
        "encoder": encoder,
        "first": first,
        "token": sum(others) / len(others),
        "total": encoder + first + sum(others),
    }
