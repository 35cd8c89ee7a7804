"""The addresses of the page: its files, the facts that it shows, and the transcriptions that it asks for."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from max_whisper.serve.http import Endpoint
from max_whisper.serve.page import facts, files
from max_whisper.serve.page.facts import Layers
from max_whisper.serve.page.transcriptions import answer
from max_whisper.serve.service import Service

TRANSCRIPTIONS = "/page-data/transcriptions"


def routes(service: Service, layers: Layers) -> list[BaseRoute]:
    """Returns all addresses of the page. layers: returns the layers of an artifact's folder."""
    transcriptions = Route(TRANSCRIPTIONS, Endpoint(service, answer), methods=["POST"])
    return [*files.routes(), *facts.routes(service, layers), transcriptions]
