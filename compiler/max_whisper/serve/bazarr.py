"""Bazarr's Whisper provider: `/asr`, `/detect-language` and `/status`, as whisper-asr-webservice answers them.

Bazarr does not look at the status of `/asr`: it takes any body for a subtitle, and throws away what is none. So errors
are JSON, as that server (and FastAPI, which it is written with) has them, and never text.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote as percent_encoded

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from max_whisper.options import OptionError
from max_whisper.runtime.audio.recording import Recording
from max_whisper.runtime.output.writers import render
from max_whisper.runtime.transcription.options import TranscribeKeywords
from max_whisper.serve.errors import RequestError, unknown_field, wrong_field
from max_whisper.serve.fields import Fields
from max_whisper.serve.http import Endpoint
from max_whisper.serve.raw_sound import has_header
from max_whisper.serve.service import Service
from max_whisper.serve.transcribing import Task
from max_whisper.serve.uploads import Form, Upload, read_form
from max_whisper.serve.version import PROGRAM, program_version
from max_whisper.serve.work import Work
from max_whisper.tokens import LANGUAGES

FILE = "audio_file"
SOUND_FIELDS = ("encode", "model", "video_file")
ASR_FIELDS = (
    *SOUND_FIELDS,
    "task",
    "language",
    "initial_prompt",
    "vad_filter",
    "word_timestamps",
    "output",
    "diarize",
    "min_speakers",
    "max_speakers",
)
NUMBERS_OF_SPEAKERS = ("min_speakers", "max_speakers")
OUTPUTS = {"txt": "text/plain", "vtt": "text/vtt", "srt": "text/plain", "tsv": "text/plain", "json": "application/json"}
"""The forms of a transcription, the first of which is the default, with their types."""


PATHS = {"/asr": "POST", "/detect-language": "POST", "/status": "GET"}
"""The addresses of this API, with their methods; errors at any of them have the form of `detail`."""


def routes(service: Service) -> list[BaseRoute]:
    """Returns the paths of this API."""

    async def status(request: Request) -> Response:
        return JSONResponse({"version": f"{PROGRAM} {program_version()}"})

    handlers = {"/asr": _asr, "/detect-language": _detect_language}
    return [
        Route("/status", status, methods=["GET"]),
        *(Route(path, Endpoint(service, handlers[path], detail), methods=["POST"]) for path in handlers),
    ]


def detail(error: RequestError) -> Response:
    """Returns an error as whisper-asr-webservice writes it."""
    return JSONResponse({"detail": str(error)}, error.status, error.headers)


async def _asr(request: Request, work: Work) -> Response:
    """Transcribes a recording."""
    form = await read_form(request, work)
    fields = _Fields(request, form, ASR_FIELDS)
    options, output = _options(fields), fields.choice("output", OUTPUTS)
    upload, task = form.take_file(FILE), await _task(fields, work)
    raw = not fields.flag("encode", default=True)

    def transcribe() -> str:
        task.check(options)
        return render(task.transcribe(_sound(task, upload, fields, raw), options), output)

    try:
        text = await work.run(transcribe)
    except OptionError as error:  # the fields are called as the options are
        raise RequestError(400, error.spelled(lambda name: name)) from error
    name = percent_encoded(f"{upload.name}.{output}", safe="")
    headers = {"asr-engine": PROGRAM, "content-disposition": f"attachment; filename*=UTF-8''{name}"}
    return PlainTextResponse(text, headers=headers, media_type=OUTPUTS[output])


async def _detect_language(request: Request, work: Work) -> Response:
    """Says which language is spoken in the first 30 seconds of a recording."""
    form = await read_form(request, work)
    fields = _Fields(request, form, SOUND_FIELDS)
    upload, task = form.take_file(FILE), await _task(fields, work)
    raw = not fields.flag("encode", default=True)

    def detect() -> dict[str, float]:
        return task.detect_language(task.first_window(_sound(task, upload, fields, raw)))

    probabilities = await work.run(detect)
    code, probability = next(iter(probabilities.items()))
    return JSONResponse({"detected_language": LANGUAGES[code], "language_code": code, "confidence": probability})


async def _task(fields: _Fields, work: Work) -> Task:
    entry = work.service.pool.entry(fields.text("model"))
    return Task(work, entry, await work.model(entry))


def _sound(task: Task, upload: Upload, fields: _Fields, raw: bool) -> Recording:
    """Returns the sound of a file. raw: whether the client says that it has no header, which may be a mistake."""
    name = fields.text("video_file") or upload.name
    if raw and not has_header(upload.file):
        return task.read_raw(upload.file, name)
    return task.decode(upload.file, name)


def _options(fields: _Fields) -> TranscribeKeywords:
    """Returns the options of `Model.transcribe` that fields ask for."""
    if fields.flag("diarize") or any(map(fields.text, NUMBERS_OF_SPEAKERS)):
        raise wrong_field("diarize", "who speaks cannot be told by Whisper; leave it out, and the numbers of speakers")
    options: TranscribeKeywords = {"task": fields.choice("task", ("transcribe", "translate"))}
    if language := fields.text("language"):
        options["language"] = language
    if prompt := fields.text("initial_prompt"):
        options["initial_prompt"] = prompt
    if fields.flag("vad_filter"):
        options["vad_filter"] = True
    if fields.flag("word_timestamps"):
        options["word_timestamps"] = True
    return options


class _Fields(Fields):
    """The fields of a request, in its address or in its form."""

    def __init__(self, request: Request, form: Form, known: Collection[str]) -> None:
        super().__init__()
        in_address = request.query_params.multi_items()
        in_form = [(name, value) for name, values in form.fields.items() for value in values]
        for name, value in [*in_address, *in_form]:
            if name not in known:
                raise unknown_field(name, known)
            if self._values.setdefault(name, value) != value:
                raise wrong_field(name, "expected one value, got several")
