"""Writes errors as answers in OpenAI's form, and failures of the server to the log."""

from __future__ import annotations

import logging
import os
import traceback

from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from max_whisper.messages import printable
from max_whisper.serve.errors import RequestError, request_error

TRACEBACK = "MAX_WHISPER_TRACEBACK"
"""The environment variable that makes a failure show where it comes from, as for every command."""
REQUEST_ID = "max_whisper.request_id"
"""The extension of a scope with the id that the client gets with its answer."""
_LOG = logging.getLogger(__name__)


def name_of(scope: Scope) -> str:
    """Returns what the log calls a request: its path, and the id that its client gets."""
    return f"{printable(scope['path'], 200)} {scope.get('extensions', {}).get(REQUEST_ID, '')}".rstrip()


def openai_error(error: RequestError) -> Response:
    """Returns an error in OpenAI's form."""
    return JSONResponse(error.body(), error.status, error.headers)


def answer_to(error: BaseException, what: str) -> RequestError:
    """Returns the answer to any exception that a request ended with, and logs it where it is the server's fault.

    what: what the log calls the request.
    """
    answer = request_error(error)
    if answer.status >= 500 and answer is not error:
        log_failure(what, error)
    return answer


def log_failure(what: str, error: BaseException) -> None:
    """Logs an error that is the server's fault, on one line; with MAX_WHISPER_TRACEBACK, where it comes from as well.

    what: what the log calls the request.
    """
    if os.environ.get(TRACEBACK):
        traceback.print_exception(type(error), error, error.__traceback__)
    _LOG.error("%s: %s: %s", what, type(error).__name__, printable(error))
