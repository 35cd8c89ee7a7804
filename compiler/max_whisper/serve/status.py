"""What a server says about itself: `/health` for those that watch it, `/metrics` for Prometheus."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from max_whisper.serve.metrics import CONTENT_TYPE
from max_whisper.serve.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """Returns the paths of this file."""

    async def health(request: Request) -> Response:
        """Says whether requests are taken, and what is loaded."""
        models = {entry.name: "loaded" if entry.model is not None else "not loaded" for entry in service.pool.entries}
        ready = not service.stopping
        body = {
            "status": "ok" if ready else "stopping",
            "models": models,
            "requests": service.running,
            "waiting": service.turns.waiting,
        }
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        """Returns the metrics in the text format of Prometheus."""
        return Response(service.metrics.page(), media_type=CONTENT_TYPE)

    return [Route("/health", health, methods=["GET"]), Route("/metrics", metrics, methods=["GET"])]
