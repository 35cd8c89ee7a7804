"""Puts the protocols together to one ASGI application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from max_whisper.messages import printable
from max_whisper.serve import bazarr, status
from max_whisper.serve.answers import openai_error
from max_whisper.serve.errors import RequestError, request_error
from max_whisper.serve.middleware import Access, Answering, Draining
from max_whisper.serve.openai.routes import routes as openai_routes
from max_whisper.serve.page.facts import Layers
from max_whisper.serve.page.routes import routes as page_routes
from max_whisper.serve.realtime.routes import routes as realtime_routes
from max_whisper.serve.service import Service

EXAMPLE = "POST /v1/audio/transcriptions"


def create_app(
    service: Service,
    layers: Layers,
    api_key: str | None = None,
    cors_origins: Sequence[str] = (),
    hosts: Collection[str] | None = None,
    wyoming: socket.socket | None = None,
) -> ASGIApp:
    """Returns the application of a server.

    Args:
        service: The models, limits and metrics.
        layers: Returns the layers of an artifact's folder, for the page.
        api_key: The key that requests must have; None where they need none.
        cors_origins: The origins whose pages may use the server from a browser, such as "https://example.org"; "*" for
            all.
        hosts: The names by which the server may be called, in lower case; None for any.
        wyoming: The socket at which Wyoming is spoken as long as the application runs; None where it is not.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        freeing = asyncio.create_task(service.pool.free_what_rests())
        async with AsyncExitStack() as running:
            if wyoming is not None:
                from max_whisper.serve.wyoming.server import wyoming_server  # its package is needed for nothing else

                await running.enter_async_context(wyoming_server(service, wyoming))
            yield
        freeing.cancel()
        service.close()

    cors = Middleware(
        CORSMiddleware,
        allow_origins=cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["x-request-id", "retry-after"],
    )
    app = Starlette(
        routes=[
            *openai_routes(service),
            *realtime_routes(service),
            *bazarr.routes(service),
            *status.routes(service),
            *page_routes(service, layers),
        ],
        middleware=[
            Middleware(Draining),
            *([cors] if cors_origins else []),
            Middleware(Access, written=_written, api_key=api_key, origins=cors_origins, hosts=hosts),
        ],
        exception_handlers={HTTPException: _not_served, Exception: _failed},
        lifespan=lifespan,
    )
    return Answering(app, service.metrics)


async def _not_served(request: Request, error: Exception) -> Response:
    """Returns the answer for paths and methods that are not served."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {printable(request.url.path, 200)}"
    what = {404: "there is no such address", 405: "this address does not take this method"}
    path = request.url.path
    instead = f"{bazarr.PATHS[path]} {path}" if path in bazarr.PATHS else f"{EXAMPLE}, for example"
    message = f"{where}: {what.get(error.status_code, printable(error.detail, 200))}, expected {instead}"
    return _written(path, RequestError(error.status_code, message, headers=error.headers))


async def _failed(request: Request, error: Exception) -> Response:
    """Returns the answer where no endpoint has caught an error. Starlette raises it again, and `Answering` logs it."""
    return _written(request.url.path, request_error(error))


def _written(path: str, error: RequestError) -> Response:
    """Returns an error in the form that the clients of an address read."""
    return bazarr.detail(error) if path in bazarr.PATHS else openai_error(error)
