"""Checks the responses of a Hub before the Hub's client acts on them.

The client names files of its cache by the headers of a response, waits as long as a header says, and writes all bytes
that come. So each request and each response passes through here, by hooks of the client's own HTTP library: a malicious
mirror, or anybody in between, causes an error and not a file outside the cache or a full disk.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx2
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import _http

from max_whisper.errors import HubError
from max_whisper.messages import printable, quote
from max_whisper.progress import OnProgress, Progress, ignore_progress

COMMIT = re.compile("[0-9a-f]{40}")
ETAG = re.compile('(W/)?"?[A-Za-z0-9][A-Za-z0-9._+=-]{0,127}"?')
"""The etags that are accepted, because the client uses an etag as the name of a file."""
SIZE = re.compile("[0-9]{1,18}")
MAX_REQUESTS = 100
"""The most requests for a file: redirects, and downloads that are resumed after the connection was cut."""
MIN_SPEED, GRACE_SECONDS = 1000, 60.0
"""The least bytes per second on average, and the seconds after which they are required."""
SLACK = 1024
"""The bytes by which a compressed body may be longer than its content."""
WAIT_HEADERS = ("retry-after", "ratelimit")
"""The headers that tell the client how long to wait; without them, its waits are bounded."""


class Download:
    """The download of a file from the Hub, with the limits on what the Hub may answer."""

    def __init__(
        self,
        file: str,
        *,
        limit: int,
        room: int,
        size_required: bool = False,
        commit: str | None = None,
        compressed: bool = True,
        progress: OnProgress = ignore_progress,
    ) -> None:
        """Sets the limits.

        Args:
            file: The file, for messages.
            limit: The most bytes that it may have.
            room: The bytes that are free on the disk.
            size_required: Whether the response must announce the size.
            commit: The commit that the file must be of, if it is known.
            compressed: Whether the body may be compressed, which is safe only where `check_size` checks the content.
            progress: Called with each warning of the client.
        """
        self.progress = progress
        self._file = file
        self._limit = limit
        self._announced: int | None = None
        self._room = room
        self._size_required = size_required
        self._commit = commit
        self._encodings = {"", "identity", *(("gzip", "deflate") if compressed else ())}
        self._requests = 0

    def check_size(self, size: int) -> None:
        """Raises HubError where more bytes have come, `size`, than the Hub announced."""
        if size > self._bound:
            raise self._error(f"sent more than the {self._bound} bytes that it may have")

    @property
    def _bound(self) -> int:
        return self._limit if self._announced is None else self._announced

    def on_request(self, request: httpx2.Request) -> None:
        """Counts a request before it is sent, and asks for no compression."""
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            raise self._error(f"needed more than {MAX_REQUESTS} requests")
        request.headers["Accept-Encoding"] = "identity"

    def on_response(self, response: httpx2.Response) -> None:
        """Checks the headers of a response, and bounds its body before it is read."""
        self._check_headers(response)
        for name in WAIT_HEADERS:
            response.headers.pop(name, None)
        if response.request.method == "HEAD":
            self._check_announcement(response)
        elif response.is_success:
            self._check_body(response)
            response.stream = _Body(response.stream, self._bound + SLACK, self._error)
        else:  # of an error or a redirect, only the headers count
            response.stream = _Body(response.stream, None, self._error)

    def _check_headers(self, response: httpx2.Response) -> None:
        commit = response.headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT)
        if commit is not None and not COMMIT.fullmatch(commit):
            raise self._error(f"answered with the commit {quote(commit)}, expected 40 hexadecimal digits")
        if commit is not None and self._commit not in (None, commit):
            raise self._error(f"answered with the commit {commit}, asked for {self._commit}")
        if "location" in response.headers:
            before = urlsplit(str(response.request.url)).scheme
            after = urlsplit(urljoin(str(response.request.url), response.headers["location"])).scheme
            if after not in ("http", "https") or (before, after) == ("https", "http"):
                raise self._error(f"redirected from {before} to {quote(response.headers['location'])}")

    def _check_announcement(self, response: httpx2.Response) -> None:
        """Checks the response to HEAD, whose etag will name a file, and whose size bounds the download."""
        if response.is_error:
            return
        etag = response.headers.get(constants.HUGGINGFACE_HEADER_X_LINKED_ETAG) or response.headers.get("etag")
        if etag is not None and not ETAG.fullmatch(etag):
            raise self._error(f"answered with the etag {quote(etag)}, expected letters and digits")
        size = response.headers.get(constants.HUGGINGFACE_HEADER_X_LINKED_SIZE)
        if size is None and not response.has_redirect_location:
            size = response.headers.get("content-length")
        self._announce(size)

    def _announce(self, size: str | None) -> None:
        self._announced = int(size) if size is not None and SIZE.fullmatch(size) else None
        if self._bound > self._limit:
            raise self._error(f"announced {size} bytes, expected at most {self._limit}")

    def _check_body(self, response: httpx2.Response) -> None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in self._encodings:
            raise self._error(f"sent it in the encoding {quote(encoding)}, which was not asked for")
        if self._announced is None:  # the response to HEAD did not, so the download itself must
            self._announce(response.headers.get("content-length"))
        if self._announced is None and self._size_required:
            raise self._error("did not say how large it is")
        if self._bound > self._room:
            raise HubError(
                f"{self._file} has up to {self._bound >> 20} MB, and the disk of {constants.HF_HUB_CACHE} has room for "
                f"{self._room >> 20} MB: free some space, or set HF_HOME to another disk"
            )

    def _error(self, fault: str) -> HubError:
        return HubError(
            f"{self._file}: the Hub at {constants.ENDPOINT} {fault}: try again later, check HF_ENDPOINT, or give a "
            "local folder"
        )


class _Body(httpx2.SyncByteStream):
    """The body of a response, which raises an error if it is too long or too slow; without a limit it is empty."""

    def __init__(
        self,
        stream: httpx2.SyncByteStream | httpx2.AsyncByteStream,
        limit: int | None,
        error: Callable[[str], HubError],
    ) -> None:
        assert isinstance(stream, httpx2.SyncByteStream)
        self._stream = stream
        self._limit = limit
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        if self._limit is None:
            return
        began, size = time.monotonic(), 0
        for chunk in self._stream:
            size += len(chunk)
            if size > self._limit:
                raise self._error(f"sent more than the {self._limit} bytes that it may have")
            seconds = time.monotonic() - began
            if seconds > GRACE_SECONDS and size < seconds * MIN_SPEED:
                raise self._error(f"sent {size} bytes in {seconds:.0f} s, which is too slow")
            yield chunk

    def close(self) -> None:
        self._stream.close()


_current: ContextVar[Download | None] = ContextVar("current download", default=None)
_installing = threading.Lock()


@contextmanager
def guarded(download: Download) -> Iterator[None]:
    """Applies the limits of `download` to the requests that the Hub's client makes in this thread meanwhile."""
    _install()
    token = _current.set(download)
    try:
        yield
    finally:
        _current.reset(token)


def _install() -> None:
    """Adds the hooks to every HTTP client that the Hub's client makes from now on, whichever factory makes it."""
    with _installing:
        if not isinstance(_http._GLOBAL_CLIENT_FACTORY, _Factory):
            set_client_factory(_Factory(_http._GLOBAL_CLIENT_FACTORY))
        for handler in logging.getLogger("huggingface_hub").handlers:
            if _report_warning not in handler.filters:
                handler.addFilter(_report_warning)


@dataclass(frozen=True)
class _Factory:
    """A factory of HTTP clients with the hooks."""

    make: Callable[[], httpx2.Client]

    def __call__(self) -> httpx2.Client:
        client = self.make()
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks["request"], _on_request],
            "response": [_on_response, *hooks["response"]],
        }
        return client


def _on_request(request: httpx2.Request) -> None:
    if (download := _current.get()) is not None:
        download.on_request(request)


def _on_response(response: httpx2.Response) -> None:
    if (download := _current.get()) is not None:
        download.on_response(response)


def _report_warning(record: logging.LogRecord) -> bool:
    """Reports the client's warnings, which contain text of the Hub, by `progress`; a filter for its log."""
    if (download := _current.get()) is None:
        return True
    download.progress(Progress(printable(record.getMessage(), 300)))
    return False
