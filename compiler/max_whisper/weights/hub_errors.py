"""Explains the errors of the Hub's client: one sentence for each, which says what failed and what to do next."""

from __future__ import annotations

import errno

from huggingface_hub import constants, errors

from max_whisper.errors import HubError, MaxWhisperError, UserError
from max_whisper.messages import quote
from max_whisper.weights.hub_files import RepoRevision


def _is_a(error: BaseException, name: str) -> bool:
    """Returns whether the class of an error, or a base class of it, has this name.

    The name is enough for errors of the client's HTTP library, which is httpx or httpx2 in different versions.
    """
    return any(base.__name__ == name for base in type(error).__mro__)


def is_unreachable(error: BaseException) -> bool:
    """Returns whether an error means that the Hub is down or out of reach, rather than that it refused."""
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    return _is_a(error, "TransportError")


def explain(error: BaseException, source: RepoRevision) -> MaxWhisperError:
    """Returns an error of one sentence for an exception that the client raised while it was reading a revision."""
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # says why the Hub did not answer; the error itself, only that no file is cached
    if isinstance(error, errors.FileMetadataError):  # no etag, or no commit
        return HubError(
            f"{source}: the server at {constants.ENDPOINT} is no Hub (it sends no etag or no commit): check "
            "HF_ENDPOINT and the proxy"
        )
    page = f"{constants.ENDPOINT}/{source.repo}"
    if isinstance(error, errors.GatedRepoError):
        return UserError(f"{source} is gated: accept its terms at {page}, then log in with `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UserError(
            f"there is no Hub repository {quote(source.repo)}, or it is private: check the name at "
            f"{constants.ENDPOINT}, or log in with `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(
            f"Hub repository {quote(source.repo)} has no revision {quote(source.revision)}: give a branch, a tag or "
            f"a commit that {page} lists"
        )
    if isinstance(error, errors.HFValidationError):
        return UserError(f"{quote(source.repo)} is neither a path that exists nor the name of a Hub repository")
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return UserError(f"{source}: access denied (HTTP {status}): check HF_TOKEN, or `hf auth login` again")
        return HubError(f"{source}: the Hub at {constants.ENDPOINT} answered with HTTP {status}: try again later")
    if _is_a(error, "TimeoutException"):
        return HubError(f"{source}: the Hub at {constants.ENDPOINT} did not answer in time: try again later")
    if _is_a(error, "RemoteProtocolError") or _is_a(error, "ReadError"):
        return HubError(
            f"{source}: the connection was cut during a download, or was no HTTP ({error}): run the command again"
        )
    if _is_a(error, "TransportError"):
        return HubError(
            f"{source}: the Hub at {constants.ENDPOINT} cannot be reached ({error}): check the connection, "
            "or give a local folder"
        )
    if isinstance(error, OSError) and error.errno is not None:
        advice = "free some space, or set HF_HOME to another disk" if error.errno == errno.ENOSPC else "set HF_HOME"
        return HubError(
            f"{source}: the cache at {constants.HF_HUB_CACHE} cannot be written ({error.strerror}): {advice}"
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return HubError(f"{source}: the download failed ({reason}): run the command again")
