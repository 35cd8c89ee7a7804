"""Why sessions end, and what a client is told where something fails."""

from __future__ import annotations

from max_whisper.options import OptionError
from max_whisper.serve.answers import answer_to
from max_whisper.serve.errors import RequestError
from max_whisper.serve.realtime.config import OPTION_FIELDS

BUFFER = "input_audio_buffer"
"""What the names of events begin with that are about sound that was not committed."""


def ended() -> RequestError:
    """Returns the reason to end the work for a session whose client has closed it, which is how sessions end."""
    return RequestError(499, "the client has ended the session", code="session_ended")


def over() -> RequestError:
    """Returns the error that ends a session whose time is over."""
    message = "the session has lasted for as long as this server lets one last: connect again"
    return RequestError(408, message, code="session_expired")


def idle(seconds: float) -> RequestError:
    """Returns the error that ends a session whose client has sent nothing for some seconds."""
    return RequestError(408, f"nothing came for {seconds:g} seconds: connect again", code="session_idle")


def uncommitted(broken: bool) -> RequestError:
    """Returns the error for an update that comes too late. broken: whether there is no stream that could commit."""
    remedy = f"{BUFFER}.clear" if broken else f"{BUFFER}.clear or {BUFFER}.commit"
    return RequestError(
        400,
        "session: how sound is heard cannot be changed while there is sound that was not committed: send "
        f"{remedy} before",
        param="session",
        code="session_started",
    )


def nothing_to_commit() -> RequestError:
    """Returns the error for a commit where nothing is being said."""
    return RequestError(
        400,
        f"there is no sound to be committed: send {BUFFER}.append before",
        code="input_audio_buffer_commit_empty",
    )


def spelled(error: Exception, path: str) -> RequestError:
    """Returns the answer to an error, with the names of fields as sessions have them. path: the session's address."""
    if isinstance(error, OptionError):
        message = error.spelled(lambda name: OPTION_FIELDS.get(name, name))
        field = message.partition(":")[0]
        return RequestError(
            400, message, param=field if field in OPTION_FIELDS.values() else None, code="invalid_value"
        )
    return answer_to(error, path)
