"""The options of a batch: what is written, and by how many processes."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from max_whisper.option_kinds import Choice, Flag, Integer
from max_whisper.options import Options

AUTO: Literal["auto"] = "auto"
Format = Literal["parquet", "jsonl"]
"""The formats of the rows."""
Rows = Literal["recording", "segment"]
"""What a row is about."""


@dataclass(frozen=True)
class BatchOptions(Options, headings={"format": "Results", "workers": "Processes"}):
    """What a batch writes, and by how many processes it is done."""

    format: Annotated[
        Format,
        Choice(
            "Write the rows as Parquet files, or as lines of JSON. Each file appears when it is whole.",
            words=get_args(Format),
        ),
    ] = "parquet"
    rows: Annotated[
        Rows,
        Choice(
            "Write a row for each recording, with its segments in it, or one for each segment.", words=get_args(Rows)
        ),
    ] = "recording"
    retry_failed: Annotated[
        bool,
        Flag(
            "Try the recordings again that failed in earlier runs; their rows are removed first. Without this option "
            "they are left as they are."
        ),
    ] = False
    workers: Annotated[
        int | Literal["auto"],
        Integer(
            "Transcribe in this number of processes, which share the cores and the memory of the weights. With auto, "
            "the number is measured that is the fastest, once for each model and machine.",
            low=1,
            high=4096,
            unit="N|auto",
            words=(AUTO,),
        ),
    ] = AUTO
