"""The options of `bench` and `verify`; each field says which values it takes."""

from dataclasses import dataclass
from typing import Annotated

from max_whisper.option_kinds import Integer
from max_whisper.options import Options

MOST_TOKENS = 100_000
"""The most tokens of a window that can be asked for; a model refuses more than its text context takes."""


@dataclass(frozen=True)
class BenchOptions(Options):
    """The options of `bench`."""

    tokens: Annotated[int, Integer("Decode this number of tokens in each window.", low=2, high=MOST_TOKENS)] = 100
    rounds: Annotated[int, Integer("Measure this number of times, and show the median.", low=1, high=1000)] = 7


@dataclass(frozen=True)
class VerifyOptions(Options):
    """The options of `verify`."""

    tokens: Annotated[
        int, Integer("Compare this number of tokens, each of them the most probable one.", low=1, high=MOST_TOKENS)
    ] = 32
