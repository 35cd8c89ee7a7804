"""json: all fields of the segments, with the names of openai/whisper, and our warnings."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.writers import register

if TYPE_CHECKING:
    from max_whisper.runtime.results import Segment, TranscriptionResult


@register("json")
def as_json(result: TranscriptionResult, subtitles: SubtitleOptions) -> str:
    """Returns one object with the text, the language and the segments.

    Segments have words where these were found, and warnings where there are any. Those that were left out because of
    their warnings are listed as `dropped`.
    """
    dropped = [segment for window in result.windows for segment in window.dropped]
    return json.dumps(
        {
            "text": result.text,
            "segments": [_segment(i, segment) for i, segment in enumerate(result.segments)],
            "language": result.language,
            **({"dropped": [_segment(i, segment) for i, segment in enumerate(dropped)]} if dropped else {}),
        }
    )


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": segment.seek,
        "start": float(segment.start),
        "end": float(segment.end),
        "text": segment.text,
        "tokens": [int(token) for token in segment.tokens],
        "temperature": float(segment.temperature),
        "avg_logprob": float(segment.avg_logprob),
        "compression_ratio": float(segment.compression_ratio),
        "no_speech_prob": float(segment.no_speech_prob),
        **({} if segment.words is None else {"words": [asdict(word) for word in segment.words]}),
        **({"warnings": [asdict(warning) for warning in segment.warnings]} if segment.warnings else {}),
    }
