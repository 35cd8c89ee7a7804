"""txt: the text alone, a line for each segment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.writers import register

if TYPE_CHECKING:
    from max_whisper.runtime.results import Segment, TranscriptionResult


@register("txt")
def txt(result: TranscriptionResult, subtitles: SubtitleOptions) -> str:
    """Returns the text of each segment on a line."""
    return plain_text(result.segments)


def plain_text(segments: Iterable[Segment]) -> str:
    """Returns the text of some segments as a txt file has it."""
    return "".join(f"{segment.text.strip()}\n" for segment in segments)
