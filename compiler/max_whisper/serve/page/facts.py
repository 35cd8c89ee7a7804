"""What the page shows of the models: how they were built, and the layers of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from max_whisper.artifact.manifest import WhisperManifest
from max_whisper.artifact.read import read_manifest
from max_whisper.errors import MaxWhisperError
from max_whisper.serve.answers import answer_to, name_of, openai_error
from max_whisper.serve.pool import Entry
from max_whisper.serve.service import Service
from max_whisper.tokens import LANGUAGES

Layers: TypeAlias = Callable[[Path], Mapping[str, Any]]
"""Returns the layers of an artifact as JSON values. The server does not import the spec language; the command does."""

KEPT_SECONDS = 10.0
"""The seconds for which the layers of a model are kept: a benchmark beside it may be new after that."""


def routes(service: Service, layers: Layers) -> list[BaseRoute]:
    """Returns the addresses of this file."""
    reports: dict[str, tuple[float, Mapping[str, Any]]] = {}  # when each was made, by the name of its model
    one_at_a_time = asyncio.Lock()

    async def report(entry: Entry) -> Mapping[str, Any]:
        """Returns the layers of a model, which are computed at most once in KEPT_SECONDS for all who ask."""
        async with one_at_a_time:
            made, known = reports.get(entry.name, (0.0, None))
            if known is None or time.monotonic() - made > KEPT_SECONDS:
                known = await asyncio.to_thread(layers, entry.folder)
                reports[entry.name] = time.monotonic(), known
            return known

    async def models(request: Request) -> Response:
        try:
            listed = await asyncio.to_thread(lambda: [_model(entry) for entry in service.pool.entries])
        except MaxWhisperError as error:  # an artifact that is gone since the server started
            return openai_error(answer_to(error, name_of(request.scope)))
        return JSONResponse({"models": listed})

    async def layers_of_model(request: Request) -> Response:
        try:
            entry = service.pool.entry(request.path_params["name"])
            return JSONResponse(await report(entry))
        except MaxWhisperError as error:
            return openai_error(answer_to(error, name_of(request.scope)))

    return [
        Route("/page-data/models", models, methods=["GET"]),
        Route("/page-data/models/{name}/layers", layers_of_model, methods=["GET"]),
    ]


def _model(entry: Entry) -> dict[str, Any]:
    """Returns what the page says about a model before it is used."""
    manifest = read_manifest(entry.folder)
    assert isinstance(manifest, WhisperManifest)  # the pool has refused others
    plan, codes = manifest.plan, manifest.tokens.languages
    return {
        "name": entry.name,
        "spec": plan.spec.name,
        "dtype": plan.dtype,
        "kernels": plan.kernels,
        "target": str(plan.target),
        "batch": plan.batch,
        "bytes": sum(file.size for file in manifest.files.values()),
        "languages": {code: LANGUAGES.get(code, code) for code in codes or ()},
    }
