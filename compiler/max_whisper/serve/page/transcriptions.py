"""Transcribes a recording for the page with one model after the other, and sends what is found line by line.

OpenAI's API has neither the probabilities of words nor several models in a request. Here the recording is sent and
decoded once, and the models take it in turn, so that none slows down another: their times can be compared. Each line of
the answer is a JSON object whose `event` says what it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from max_whisper.messages import quote
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.audio.waveform import SAMPLE_RATE
from max_whisper.runtime.output.writers import known_formats, render
from max_whisper.runtime.results import Segment, TranscriptionResult, Window
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.serve.answers import answer_to
from max_whisper.serve.errors import RequestError, unknown_field, wrong_field
from max_whisper.serve.http import IDLE_SECONDS, STREAM_HEADERS
from max_whisper.serve.pool import Entry
from max_whisper.serve.transcribing import Task
from max_whisper.serve.uploads import read_form
from max_whisper.serve.work import Work
from max_whisper.tokens import LANGUAGES

FIELDS = ("model", "language")
MEDIA_TYPE = "application/x-ndjson"
Event = dict[str, Any]


async def answer(request: Request, work: Work) -> Response:
    """Transcribes the recording of a form with each of its models."""
    form = await read_form(request, work)
    for name in form.fields:
        if name not in FIELDS:
            raise unknown_field(name, ["file", *FIELDS])
    upload = form.take_file("file")
    entries = [work.service.pool.entry(name) for name in dict.fromkeys(form.fields.get("model", []))]
    entries = entries or [work.service.pool.default]
    languages = form.fields.get("language", [])
    if len(languages) > 1:
        raise wrong_field("language", f"expected one value, got {len(languages)}")
    language = "".join(languages).strip()
    if language and language not in LANGUAGES:
        raise wrong_field("language", f"expected the code of a language, got {quote(language)}")
    # Before the answer begins: after that, a recording that cannot be read could not get the status of an error.
    async with work.lease(entries[0]) as model:
        task = Task(work, entries[0], model)
        began = time.monotonic()
        sound = await work.run(lambda: task.decode(upload.file, upload.name))
    started = {"event": "decoded", "seconds": len(sound) / SAMPLE_RATE, "took": time.monotonic() - began}
    lines = _lines(work, entries, sound, language, started)
    return StreamingResponse(lines, media_type=MEDIA_TYPE, headers=STREAM_HEADERS)


async def _lines(
    work: Work, entries: list[Entry], sound: Recording, language: str, started: Event
) -> AsyncIterator[bytes]:
    """Yields the lines of an answer. An error of a model is a line of its own, and the next model goes on."""
    yield _line(started)
    for entry in entries:
        began = time.monotonic()
        try:
            yield _line({"event": "loading", "model": entry.name})
            async with work.lease(entry) as model:  # each is given back before the next one is loaded
                yield _line({"event": "loaded", "model": entry.name, "took": time.monotonic() - began})
                run = _transcription(Task(work, entry, model), sound, language)
                async with aclosing(work.stream(run, IDLE_SECONDS)) as lines:
                    async for line in lines:
                        yield _line({"event": "waiting"}) if line is None else line
        except Exception as error:
            yield _line({"event": "error", "model": entry.name, **answer_to(error, work.job.name).body()})
            if work.job.cancelled:
                return


def _transcription(task: Task, sound: Recording, language: str) -> Callable[[Callable[[bytes], None]], None]:
    """Returns a function that transcribes, and gives the line of each event as soon as it is known.

    The last one, which holds all files, may be large: it is written here, in the request's thread.
    """
    options: TranscribeKeywords = {"word_timestamps": True}
    if language:
        options["language"] = language if task.model.multilingual else "en"

    def run(give: Callable[[bytes], None]) -> None:
        def tell(event: str, **fields: Any) -> None:
            give(_line({"event": event, "model": task.entry.name, "computing": task.computing, **fields}))

        if language and not task.model.multilingual and language != "en":
            raise RequestError(
                400, f"{task.entry.name} knows English alone: choose English, or another model", param="language"
            )

        def show(transcriber: Transcriber, window: Window) -> None:
            segments = [_segment(segment) for segment in window.segments]
            tell("window", end=window.end, segments=segments)

        tell("result", **_result(task.transcribe(sound, options, show)))

    return run


def _result(result: TranscriptionResult) -> Event:
    """Returns a transcription with the files that can be made of it."""
    return {
        "text": result.text.strip(),
        "language": {"code": result.language, "name": LANGUAGES[result.language]},
        "seconds": result.duration,
        "segments": [_segment(segment) for segment in result.segments],
        "files": {name: render(result, name) for name in known_formats()},
    }


def _segment(segment: Segment) -> Mapping[str, Any]:
    return {
        "start": float(segment.start),
        "end": float(segment.end),
        "text": segment.text,
        "words": [
            {
                "word": word.word,
                "start": float(word.start),
                "end": float(word.end),
                "probability": float(word.probability),
            }
            for word in segment.words or ()
        ],
        "warnings": [asdict(warning) for warning in segment.warnings],
    }


def _line(event: Event) -> bytes:
    return (json.dumps(event, ensure_ascii=False) + "\n").encode()
