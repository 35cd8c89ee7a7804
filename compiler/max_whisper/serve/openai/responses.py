"""Writes a transcription in each of the forms of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from max_whisper.runtime.decoding.tokenizer import Tokenizer
from max_whisper.runtime.output.writers import render
from max_whisper.runtime.results import Segment, TranscriptionResult
from max_whisper.serve.openai.fields import TranscriptionRequest
from max_whisper.serve.openai.logprobs import all_logprobs
from max_whisper.tokens import LANGUAGES

MEDIA_TYPES = {"srt": "application/x-subrip; charset=utf-8", "vtt": "text/vtt"}  # Starlette adds it for text alone


def response(
    result: TranscriptionResult,
    asked: TranscriptionRequest,
    task: str,
    tokenizer: Tokenizer,
    warnings: Sequence[str] = (),
) -> Response:
    """Returns a transcription in the form that was asked for.

    Args:
        result: The transcription.
        asked: What the request asks for.
        task: "transcribe" or "translate".
        tokenizer: That of the model.
        warnings: What is to be known about the recording; json and verbose_json have them, which are not OpenAI's.
    """
    told = {"warnings": [*warnings]} if warnings else {}
    if asked.response_format == "text":
        return PlainTextResponse(result.text.strip() + "\n")
    if asked.response_format in MEDIA_TYPES:
        text = render(result, asked.response_format)
        return PlainTextResponse(text, media_type=MEDIA_TYPES[asked.response_format])
    if asked.response_format == "verbose_json":
        return JSONResponse({**verbose_json(result, asked, task), **told})
    listed = {"logprobs": all_logprobs(result.windows, tokenizer)} if asked.logprobs else {}
    return JSONResponse({**plain_json(result), **listed, **told})


def plain_json(result: TranscriptionResult) -> dict[str, Any]:
    """Returns the text, the language and the duration."""
    return {
        "text": result.text.strip(),
        "languages": [{"code": result.language}],
        "usage": duration_usage(result),
    }


def verbose_json(result: TranscriptionResult, asked: TranscriptionRequest, task: str) -> dict[str, Any]:
    """Returns the text with its segments and words, as far as these were asked for."""
    body: dict[str, Any] = {
        "task": task,
        "language": LANGUAGES["en" if task == "translate" else result.language],  # that of the text
        "duration": result.duration,
        "text": result.text.strip(),
    }
    if asked.segments:
        body["segments"] = [segment_object(i, segment) for i, segment in enumerate(result.segments)]
    if asked.words:
        words = [word for segment in result.segments for word in segment.words or ()]
        body["words"] = [{"word": word.word.strip(), "start": word.start, "end": word.end} for word in words]
    body["usage"] = duration_usage(result)
    return body


def segment_object(number: int, segment: Segment) -> dict[str, Any]:
    """Returns a segment as verbose_json lists it; `warnings`, where there are any, are not OpenAI's."""
    warnings = {"warnings": [asdict(warning) for warning in segment.warnings]} if segment.warnings else {}
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
        **warnings,
    }


def duration_usage(result: TranscriptionResult) -> dict[str, Any]:
    """Returns the usage of a request by the seconds of its recording."""
    return {"type": "duration", "seconds": round(result.duration, 3)}
