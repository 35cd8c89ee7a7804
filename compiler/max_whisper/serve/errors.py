"""The errors of requests: an HTTP status, and one sentence for the person who sent the request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from max_whisper.errors import ArtifactError, AudioError, MaxWhisperError, NoRoomError, UserError
from max_whisper.messages import printable, quote, suggestion
from max_whisper.options import OptionError

FIELD_NAMES = {
    "initial_prompt": "prompt",
    "hotwords": "keywords",
    "vad_threshold": "chunking_strategy.threshold",
    "vad_speech_pad_ms": "chunking_strategy.prefix_padding_ms",
    "vad_min_silence_duration_ms": "chunking_strategy.silence_duration_ms",
    "vad_filter": "chunking_strategy",
}
"""The names of options of `Model.transcribe` as requests have them, where they differ."""
FIELDS = ("language", "languages", "temperature", *FIELD_NAMES.values())
"""The fields of requests that stand for options of `Model.transcribe`."""

LONGEST_PARAM = 100
"""The most characters of a field's name in an answer: it may be one that a stranger made up."""


class RequestError(MaxWhisperError):
    """A request is answered with an error. All protocols of the server raise it, and each writes it in its own form.

    Attributes:
        status: The HTTP status.
        kind: What kind of error it is, as OpenAI's API names it: "invalid_request_error", for example.
        param: The field of the request that is wrong; None where it is none of them.
        code: A word for programs; None where there is none.
        headers: Headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Makes an error with a message of one sentence."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = None if param is None else printable(param, LONGEST_PARAM)
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Returns the error as OpenAI's API writes it."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


def wrong_field(name: str, message: str) -> RequestError:
    """Returns the error for a field of a request. message: what was expected and what came."""
    return RequestError(400, f"{name}: {message}", param=name)


def unknown_field(name: str, known: Collection[str]) -> RequestError:
    """Returns the error for a field that an address does not take. known: those that it takes."""
    plain = name.partition("[")[0]
    return RequestError(
        400,
        f"unknown field {quote(name)}{suggestion(plain, known)}; expected one of {', '.join(known)}",
        param=name,
        code="unknown_field",
    )


def no_room() -> RequestError:
    """Returns the answer to an upload for which there is no room beside the others."""
    return RequestError(
        503,
        "there is no room for this upload beside the others: send it again in half a minute",
        kind="server_error",
        code="no_room",
        headers={"retry-after": "30"},
    )


def request_error(error: BaseException) -> RequestError:
    """Returns the answer to any exception that a request ended with."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, OptionError):
        message = error.spelled(lambda name: FIELD_NAMES.get(name, name))
        field = message.partition(":")[0]
        return RequestError(400, message, param=field if field in FIELDS else None)
    if isinstance(error, AudioError):
        return RequestError(400, str(error), param="file", code="invalid_audio")
    if isinstance(error, UserError):
        return RequestError(400, str(error))
    if isinstance(error, NoRoomError):
        return no_room()
    if isinstance(error, ArtifactError):
        return RequestError(500, str(error), kind="server_error", param="model")
    if isinstance(error, MaxWhisperError):
        return RequestError(500, str(error), kind="server_error")
    return RequestError(
        500,
        f"the server failed with {type(error).__name__}: this is a bug of max-whisper; please report it with what the "
        "server wrote to its standard error",
        kind="server_error",
    )
