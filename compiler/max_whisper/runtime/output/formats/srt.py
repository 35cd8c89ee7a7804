"""srt: SubRip subtitles, which are numbered and have a comma before the milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.subtitles import cue_block, cues
from max_whisper.runtime.output.writers import register

if TYPE_CHECKING:
    from max_whisper.runtime.results import TranscriptionResult


@register("srt")
def srt(result: TranscriptionResult, subtitles: SubtitleOptions) -> str:
    """Returns the cues of a transcription, numbered from 1."""
    numbered = enumerate(cues(result.segments, subtitles), start=1)
    return "".join(f"{i}\n{cue_block(cue, result, hours=True, decimal_marker=',')}" for i, cue in numbered)
