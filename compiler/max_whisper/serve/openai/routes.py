"""The addresses of OpenAI's API."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from max_whisper.serve.http import Endpoint
from max_whisper.serve.openai.fields import TRANSCRIPTION_FIELDS, TRANSLATION_FIELDS
from max_whisper.serve.openai.models import list_models, show_model
from max_whisper.serve.openai.transcriptions import answer
from max_whisper.serve.service import Service
from max_whisper.serve.work import Work


def routes(service: Service) -> list[BaseRoute]:
    """Returns the paths of this API."""

    async def models(request: Request) -> Response:
        return list_models(service.pool)

    async def model(request: Request) -> Response:
        return show_model(service.pool, request)

    async def transcriptions(request: Request, work: Work) -> Response:
        return await answer(request, work, TRANSCRIPTION_FIELDS, "transcribe")

    async def translations(request: Request, work: Work) -> Response:
        return await answer(request, work, TRANSLATION_FIELDS, "translate")

    computing = {"/v1/audio/transcriptions": transcriptions, "/v1/audio/translations": translations}
    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", model, methods=["GET"]),
        *(Route(path, Endpoint(service, handler), methods=["POST"]) for path, handler in computing.items()),
    ]
