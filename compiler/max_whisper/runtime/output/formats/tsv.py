"""tsv: a table of segments with tabs between its columns, and times in milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.times import within_recording
from max_whisper.runtime.output.writers import register

if TYPE_CHECKING:
    from max_whisper.runtime.results import TranscriptionResult


@register("tsv")
def tsv(result: TranscriptionResult, subtitles: SubtitleOptions) -> str:
    """Returns a row for each segment: start, end and text, in which tabs and line breaks become spaces."""
    rows = ["start\tend\ttext\n"]
    for segment in result.segments:
        start, end = within_recording(segment.start, segment.end, result.duration)
        text = " ".join(segment.text.strip().splitlines()).replace("\t", " ")
        rows.append(f"{round(1000 * start)}\t{round(1000 * end)}\t{text}\n")
    return "".join(rows)
