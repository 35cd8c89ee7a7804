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
from max_whisper.serve.service import Work
from max_whisper.serve.text_stream import TextStream
from max_whisper.serve.transcribing import OnWindow, Task, nothing
from max_whisper.serve.uploads import read_form


async def answer(request: Request, work: Work, fields: Collection[str], task: str) -> Response:
    """Transcribes the recording of a request.

    fields: the fields that its form may have. task: "transcribe" or "translate".
    """
    form = await read_form(request, work)
    upload = form.take_file("file")
    asked = read_fields(form.fields, fields, task)
    entry = work.service.pool.entry(asked.model)
    recording = Task(work, entry, await work.model(entry))
    options: TranscribeKeywords = {**asked.options, "token_logprobs": asked.logprobs}

    def prepare() -> Transcriber:
        recording.check(options)  # before the file is decoded
        sound = recording.decode(upload.file, upload.name)
        if asked.languages:
            options["language"] = next(iter(recording.detect_language(sound, asked.languages)))
        return recording.prepare(sound, options)

    # Before the answer begins: after that, a recording that cannot be read, or a voice detector that is missing, could
    # not get the status of an error.
    transcriber = await work.run(prepare)

    def transcribe(on_window: OnWindow = nothing) -> TranscriptionResult:
        return recording.transcribe_by(transcriber, on_window)

    if asked.stream:
        return event_stream(work, deltas(transcribe, TextStream(recording.model.tokenizer), asked.logprobs))
    return response(await work.run(transcribe), asked, task, recording.model.tokenizer)
