"""json: all fields of the segments, with the names of openai/whisper."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.output.writers import register

if TYPE_CHECKING:
    from max_whisper.runtime.results import TranscriptionResult


@register("json")
def as_json(result: TranscriptionResult, subtitles: SubtitleOptions) -> str:
    """Returns one object with the text, the language and the segments, which have words where these were found."""
    segments = [
        {
            "id": i,
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
        }
        for i, segment in enumerate(result.segments)
    ]
    return json.dumps({"text": result.text, "segments": segments, "language": result.language})
