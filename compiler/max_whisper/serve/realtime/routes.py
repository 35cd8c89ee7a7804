"""The address of sessions."""

from __future__ import annotations

from starlette.routing import BaseRoute, WebSocketRoute

from max_whisper.serve.realtime.endpoint import Realtime
from max_whisper.serve.realtime.session import PATH
from max_whisper.serve.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """Returns the address of sessions."""
    return [WebSocketRoute(PATH, Realtime(service))]
