"""Serves the files of the page, which load nothing from elsewhere and run no script that is not theirs."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

FOLDER = Path(__file__).with_name("static")
PREFIX = "/page/"
"""Where the files of the page are. They need no key, as the page is what asks for one."""
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src blob:",  # the recording, which stays in the browser
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy of the page: whatever a text contains, nothing of it can run or load anything."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # another version of the server may be started at the same address
}


def routes() -> list[BaseRoute]:
    """Returns the addresses of the files, which are read now: an upgrade must not mix old and new ones."""
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in TYPES}

    def response(name: str) -> Response:
        return Response(files[name], media_type=TYPES[Path(name).suffix], headers=HEADERS)

    async def index(request: Request) -> Response:
        return response("index.html")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise HTTPException(404)
        return response(name)

    return [Route("/", index, methods=["GET"]), Route(PREFIX + "{name}", file, methods=["GET"])]
