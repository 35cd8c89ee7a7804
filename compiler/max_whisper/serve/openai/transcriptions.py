"""`/v1/audio/transcriptions` and `/v1/audio/translations`."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from max_whisper.runtime.results import TranscriptionResult
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.runtime.transcription.transcriber import Transcriber
from max_whisper.serve.openai.fields import read_fields
from max_whisper.serve.openai.responses import response
from max_whisper.serve.openai.streaming import deltas, event_stream
from max_whisper.serve.text_stream import TextStream
from max_whisper.serve.transcribing import OnWindow, Task, nothing
from max_whisper.serve.uploads import read_form
from max_whisper.serve.work import Work


async def answer(request: Request, work: Work, fields: Collection[str], doing: str) -> Response:
    """Transcribes the recording of a request.

    fields: the fields that its form may have. doing: "transcribe" or "translate".
    """
    form = await read_form(request, work)
    upload = form.take_file("file")
    asked = read_fields(form.fields, fields, doing)
    entry = work.service.pool.entry(asked.model)
    task = Task(work, entry, await work.model(entry))
    options: TranscribeKeywords = {**asked.options, "token_logprobs": asked.logprobs}

    def prepare() -> tuple[Transcriber, list[str]]:
        task.check(options)  # before the file is decoded
        for language in asked.languages:
            task.known_language(language, "languages")
        recording = task.decode(upload.file, upload.name)
        transcriber = task.prepare(recording, options)
        if asked.languages:
            transcriber.language = next(iter(task.detect_language(transcriber.first_window(), asked.languages)))
        return transcriber, recording.warnings

    # Before the answer begins: after that, a recording that cannot be read, or a voice detector that is missing, could
    # not get the status of an error.
    transcriber, warnings = await work.run(prepare)

    def transcribe(on_window: OnWindow = nothing) -> TranscriptionResult:
        return task.transcribe_by(transcriber, on_window)

    if asked.stream:
        return event_stream(work, deltas(transcribe, TextStream(task.model.tokenizer), asked.logprobs))
    return await work.run(lambda: response(transcribe(), asked, doing, task.model.tokenizer, warnings))
