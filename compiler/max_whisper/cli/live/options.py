"""The options of `max-whisper live` that say where its sound comes from."""

from dataclasses import dataclass
from typing import Annotated

from max_whisper.option_kinds import Integer, Number
from max_whisper.options import Options
from max_whisper.runtime.audio.waveform import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SAMPLE_RATE


@dataclass(frozen=True)
class SourceOptions(Options, headings={"sample_rate": "Sound"}):
    """How sound is read that comes from standard input, or from a file."""

    sample_rate: Annotated[
        int,
        Integer(
            "The samples of a second of what comes from stdin.", low=MIN_SAMPLE_RATE, high=MAX_SAMPLE_RATE, unit="HERTZ"
        ),
    ] = SAMPLE_RATE
    speed: Annotated[
        float, Number("Replay a file so many times as fast as it was recorded.", low=0.1, high=1000, unit="TIMES")
    ] = 1.0
