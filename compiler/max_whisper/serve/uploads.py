"""Reads the forms that clients send, into bounded memory and a bounded temporary file that has no name.

A file without a name is gone when it is closed, and also when the process dies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import BinaryIO

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from max_whisper.messages import printable, quote
from max_whisper.runtime.audio.recording import check_room, temporary_folder
from max_whisper.serve.errors import RequestError, wrong_field
from max_whisper.serve.work import Work

MAX_FIELDS = 200
MAX_FIELD_BYTES = 256 << 10
"""The most bytes of all fields that are no file, together."""
MAX_BOUNDARY = 200
STALLED_SECONDS = 30.0
"""The seconds without a byte after which an upload is given up."""
SLOWEST = 2000
"""The bytes a second that an upload must have on average after STALLED_SECONDS: a trickle would hold its place for
hours. The worst sound that is worth sending has as many."""
_ROOM_STEP = 16 << 20


@dataclass
class Upload:
    """A file that a client has sent.

    Attributes:
        file: The file, at its beginning. It is closed when the work is over.
        name: What the client calls it, for messages alone.
        size: The number of bytes.
    """

    file: BinaryIO
    name: str
    size: int


@dataclass
class Form:
    """The fields of a form, each with its values in their order, and its files."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)

    def take_file(self, name: str) -> Upload:
        """Returns the file of a field. Raises RequestError where there is none, or nothing in it, or another."""
        others = [other for other in self.files if other != name]
        if others:
            raise wrong_field(others[0], f"unknown field with a file, expected the file in {quote(name)}")
        if name in self.fields:
            raise wrong_field(name, "expected a file, got text: send it with a file name")
        if name not in self.files:
            raise RequestError(
                400,
                f"{name}: there is no file, expected one audio or video file in this field of multipart/form-data",
                param=name,
                code="missing_file",
            )
        if not self.files[name].size:
            raise wrong_field(name, f"{self.files[name].name} is empty (0 bytes), expected sound")
        return self.files[name]


async def read_form(request: Request, work: Work) -> Form:
    """Returns the form of a request, whose files are closed when the work is over.

    Raises RequestError for what is no form, for one that is larger than the server allows (before more of it is read),
    for one that comes too slowly; NoRoomError where the disk is full; ClientDisconnect where the client goes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise RequestError(
            415 if kind else 400,
            f"{'the body is ' + printable(kind, 100) if kind else 'the header content-type is missing'}, expected "
            "multipart/form-data with the file in it",
        )
    parser = _Parser(_form_type(request), bounded_body(request, work), max_files=1, max_fields=MAX_FIELDS)
    try:
        with temporary_folder():
            parsed = await parser.parse()
    except MultiPartException as error:
        message = str(error.__cause__ or error.message).rstrip(".")  # its parser says what Starlette does not
        raise RequestError(
            400, f"the form cannot be read ({printable(message, 200)}): send multipart/form-data"
        ) from error
    work.held.push_async_callback(parsed.close)
    form = Form()
    for name, value in parsed.multi_items():
        if isinstance(value, UploadFile):
            shown = printable(value.filename or "the file", 200)
            form.files[name] = Upload(value.file, shown, value.size or 0)
        else:
            form.fields.setdefault(name, []).append(value)
    return form


class _Parser(MultiPartParser):
    """Starlette's parser with a bound on all fields together."""

    _bytes_of_fields = 0

    def on_headers_finished(self) -> None:
        """Takes the head of a part. Raises RequestError for a file too many, which names its field."""
        try:
            super().on_headers_finished()
        except MultiPartException as error:
            if self._current_files <= self.max_files:
                raise
            name = self._current_part.field_name
            raise wrong_field(name, "expected one file in the form, got several") from error

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Takes bytes of a field or of a file."""
        if self._current_part.file is None:
            self._bytes_of_fields += end - start
            if self._bytes_of_fields > MAX_FIELD_BYTES:
                raise MultiPartException(f"its fields have more than {MAX_FIELD_BYTES >> 10} KB together")
        super().on_part_data(data, start, end)


def _form_type(request: Request) -> Headers:
    """Returns the type of a form with its boundary alone: a client may name any codec of Python as its `charset`."""
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY or not all(0x20 <= c < 0x7F and c not in b'"\\' for c in boundary):
        raise RequestError(
            400, f"the boundary of the form is missing or odd, expected 1 to {MAX_BOUNDARY} characters of ASCII"
        )
    return Headers(raw=[(b"content-type", b'multipart/form-data; boundary="' + boundary + b'"')])


async def bounded_body(request: Request, work: Work) -> AsyncGenerator[bytes, None]:
    """Yields the body of a request as it comes.

    Raises RequestError where it is larger than the server allows, as its head says or as it turns out; where nothing
    comes for a while, or the time of the request is over; OSError where the disk has no room for more of it;
    ClientDisconnect where the client goes.
    """
    most = work.service.options.max_upload_mb * 1_000_000
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    stream, size, room, began = request.stream(), 0, 0, time.monotonic()
    while True:
        try:
            chunk = await work.until(_next(stream), STALLED_SECONDS, gone_too=False)
        except asyncio.TimeoutError:
            raise _too_slow(f"the upload stopped for {STALLED_SECONDS:g} seconds") from None
        if chunk is None:
            return
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        if size < (time.monotonic() - began - STALLED_SECONDS) * SLOWEST:
            raise _too_slow(f"the upload has less than {SLOWEST} bytes a second")
        work.uploaded.take(len(chunk))
        if size > room:
            check_room(_ROOM_STEP)
            room = size + _ROOM_STEP
        yield chunk


def _too_slow(what: str) -> RequestError:
    return RequestError(408, f"{what}: send the request again", code="upload_stalled")


def _too_large(most: int) -> RequestError:
    return RequestError(
        413,
        f"the request is larger than {most // 1_000_000} MB, which is what this server takes: send a shorter or "
        "compressed recording",
        param="file",
        code="file_too_large",
    )


async def _next(stream: AsyncGenerator[bytes, None]) -> bytes | None:
    """Returns the next bytes of a body; None at its end."""
    try:
        return await stream.__anext__()
    except StopAsyncIteration:
        return None
