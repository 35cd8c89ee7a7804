"""The options of `bench`, `verify` and `eval`; each field says which values it takes."""

from dataclasses import dataclass
from typing import Annotated

from max_whisper.option_kinds import Flag, Integer, Text
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


@dataclass(frozen=True)
class EvalOptions(
    Options, headings={"languages": "Recordings", "detect_language": "Transcription", "resamples": "Report"}
):
    """The options of `eval`."""

    languages: Annotated[
        str | None,
        Text(
            "Take the recordings in these languages alone: codes with commas between them; zxx stands for no speech.",
            unit="LANGUAGES",
            unset="all",
        ),
    ] = None
    kinds: Annotated[
        str | None,
        Text(
            "Take the recordings of these kinds alone: words of the column kind with commas between them.",
            unit="KINDS",
            unset="all",
        ),
    ] = None
    detect_language: Annotated[
        bool, Flag("Let the model detect the language of each recording, and do not tell it what the manifest says.")
    ] = False
    resamples: Annotated[
        int,
        Integer("Draw the recordings again this number of times for the intervals.", low=100, high=1_000_000),
    ] = 10_000
    worst: Annotated[
        int, Integer("Show this number of recordings of which most was recognized wrong.", low=0, high=1000)
    ] = 5
