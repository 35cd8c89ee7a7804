"""`/v1/audio/transcriptions` and `/v1/audio/translations`."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from max_whisper.runtime.results import TranscriptionResult
from max_whisper.serve.openai.fields import read_fields
from max_whisper.serve.openai.responses import response
from max_whisper.serve.service import Work
from max_whisper.serve.transcribing import Task
from max_whisper.serve.uploads import read_form


async def answer(request: Request, work: Work, fields: Collection[str], task: str) -> Response:
    """Transcribes the recording of a request.

    fields: the fields that its form may have. task: "transcribe" or "translate".
    """
    form = await read_form(request, work)
    asked = read_fields(form.fields, fields, task)
    upload = form.take_file("file")
    entry = work.service.pool.entry(asked.model)
    recording = Task(work, entry, await work.model(entry))

    def transcribe() -> TranscriptionResult:
        sound = recording.decode(upload.file, upload.name)
        return recording.transcribe(sound, asked.options)

    return response(await work.run(transcribe), asked, task)
