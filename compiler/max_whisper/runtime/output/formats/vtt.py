"""vtt: WebVTT subtitles, in whose text `&` and `<` are escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.subtitles import cue_block, cues
from max_whisper.runtime.output.writers import register

if TYPE_CHECKING:
    from max_whisper.runtime.results import TranscriptionResult


@register("vtt")
def vtt(result: TranscriptionResult, subtitles: SubtitleOptions) -> str:
    """Returns the cues of a transcription below the line that begins every WebVTT file."""
    blocks = (cue_block(cue, result) for cue in cues(result.segments, subtitles, _escaped))
    return "WEBVTT\n\n" + "".join(blocks)


def _escaped(text: str) -> str:
    """Returns text in which `&` begins no character's name and `<` no tag; `>` is text where no tag has begun."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
