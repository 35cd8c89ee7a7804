"""What `bench` and `verify` can be asked for; each field says what it takes."""

from dataclasses import dataclass
from typing import Annotated

from max_whisper.options import Integer, Options

MOST_TOKENS = 100_000
"""Of one window; a model says itself how many its text context takes."""


@dataclass(frozen=True)
class BenchOptions(Options):
    """How an artifact is measured."""

    tokens: Annotated[int, Integer("Number of tokens that are decoded in each window.", low=2, high=MOST_TOKENS)] = 100
    rounds: Annotated[int, Integer("Number of measurements, of which the median is shown.", low=1, high=1000)] = 7


@dataclass(frozen=True)
class VerifyOptions(Options):
    """How an artifact is compared with transformers."""

    tokens: Annotated[int, Integer("Number of greedy tokens that are compared.", low=1, high=MOST_TOKENS)] = 32
