"""The bootstrap: how often an interval holds the true rate, and what it does with few and with equal recordings."""

from __future__ import annotations

import numpy as np
import pytest
from max_whisper.tools.eval import intervals
from max_whisper.tools.eval.intervals import FEWEST, Interval, rate_interval


def test_an_interval_holds_the_true_rate() -> None:
    """In 300 sets of 60 recordings, whose error rates differ as those of speakers do, about 95 % of intervals do."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        lengths = random.integers(5, 30, 60)
        errors = random.binomial(lengths, random.beta(2, 18, 60))
        interval = rate_interval(errors.tolist(), lengths.tolist(), 1000)
        assert interval is not None
        held += interval.low <= 0.1 <= interval.high
    assert 0.90 <= held / 300 <= 0.98


def test_words_of_a_recording_count_together() -> None:
    """The same errors in fewer recordings are a wider interval: a bootstrap over words would see no difference."""
    spread = rate_interval([1] * 20 + [0] * 20, [10] * 40, 2000)
    together = rate_interval([20] + [0] * 39, [10] * 40, 2000)
    assert spread is not None and together is not None
    assert together.high - together.low > 2 * (spread.high - spread.low)


def test_a_paired_difference_is_narrow() -> None:
    """Recordings that are hard for both models widen the intervals of both, but not that of the difference."""
    random = np.random.default_rng(1)
    lengths = random.integers(5, 30, 80)
    first = random.binomial(lengths, random.beta(0.5, 2, 80))
    second = np.minimum(first + (random.random(80) < 0.2), lengths)
    alone, difference = (rate_interval(errors.tolist(), lengths.tolist(), 2000) for errors in (first, second - first))
    assert alone is not None and difference is not None
    assert 0 < difference.low < difference.high < 0.05 < alone.high - alone.low


def test_a_ratio_of_sums() -> None:
    """Long recordings weigh more: the rate is that of all words, not the mean of rates."""
    interval = rate_interval([0] * 10 + [50] * 10, [1] * 10 + [100] * 10, 4000)
    assert interval is not None
    assert 0.4 < interval.low < interval.high <= 0.5


@pytest.mark.parametrize("place", [0, FEWEST - 1])
def test_every_recording_is_drawn(place: int) -> None:
    interval = rate_interval([int(index == place) for index in range(FEWEST)], [1] * FEWEST, 1000)
    assert interval is not None and interval.low == 0.0 and interval.high >= 0.2


def test_equal_recordings_have_no_spread() -> None:
    assert rate_interval([1] * FEWEST, [4] * FEWEST, 100) == Interval(0.25, 0.25)


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1])
def test_too_few_recordings(count: int) -> None:
    assert rate_interval([1] * count, [4] * count, 100) is None


def test_it_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, lengths = [*range(30)], [40] * 30
    whole = rate_interval(errors, lengths, 1000)
    assert rate_interval(errors, lengths, 1000) == whole
    monkeypatch.setattr(intervals, "AT_ONCE", 30 * 7)  # drawn in parts, the last of which is smaller
    assert rate_interval(errors, lengths, 1000) == whole
