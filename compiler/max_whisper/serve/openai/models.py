"""`/v1/models`: the models of the server."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from max_whisper.serve.answers import openai_error
from max_whisper.serve.errors import RequestError
from max_whisper.serve.pool import Entry, ModelPool


def model_object(entry: Entry) -> dict[str, Any]:
    """Returns a model as OpenAI's API describes it."""
    return {"id": entry.name, "object": "model", "created": entry.created, "owned_by": "max-whisper"}


def list_models(pool: ModelPool) -> Response:
    """Returns all models."""
    return JSONResponse({"object": "list", "data": [model_object(entry) for entry in pool.entries]})


def show_model(pool: ModelPool, request: Request) -> Response:
    """Returns the model that the path names, or 404."""
    try:
        return JSONResponse(model_object(pool.entry(request.path_params["name"])))
    except RequestError as error:
        return openai_error(error)
