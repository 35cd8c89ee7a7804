"""The options of `bench` and `verify`; each field is validated."""

from dataclasses import dataclass
from typing import Annotated

from max_whisper.options import Integer, Options

MOST_TOKENS = 100_000
"""The limit for any model; each model has its own, the size of its text context."""


@dataclass(frozen=True)
class BenchOptions(Options):
    """The options of `bench`."""

    tokens: Annotated[int, Integer("Number of tokens that are decoded in each window.", low=2, high=MOST_TOKENS)] = 100
    rounds: Annotated[int, Integer("Number of measurements, of which the median is shown.", low=1, high=1000)] = 7


@dataclass(frozen=True)
class VerifyOptions(Options):
    """The options of `verify`."""

    tokens: Annotated[int, Integer("Number of greedy tokens that are compared.", low=1, high=MOST_TOKENS)] = 32
