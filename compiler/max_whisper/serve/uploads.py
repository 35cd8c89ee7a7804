"""Reads the forms that clients send, into bounded memory and a bounded temporary file that has no name.

A file without a name is gone when it is closed, and also when the process dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from max_whisper.messages import printable, quote
from max_whisper.runtime.audio.recording import check_room, temporary_folder
from max_whisper.serve.errors import RequestError, wrong_field
from max_whisper.serve.jobs import too_long
from max_whisper.serve.service import Work

MAX_FIELDS = 200
MAX_FIELD_BYTES = 256 << 10
STALLED_SECONDS = 30.0
"""The seconds without a byte after which an upload is given up."""
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
    for one that comes too slowly; ClientDisconnect where the client goes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise RequestError(
            415 if kind else 400,
            f"the body is {printable(kind, 100) or 'of no type'}, expected multipart/form-data with the file in it",
        )
    parser = MultiPartParser(
        request.headers,
        bounded_body(request, work),
        max_files=1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        with temporary_folder():
            parsed = await parser.parse()
    except MultiPartException as error:
        message = error.message.rstrip(".")
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


async def bounded_body(request: Request, work: Work) -> AsyncGenerator[bytes, None]:
    """Yields the body of a request as it comes.

    Raises RequestError where it is larger than the server allows, as its head says or as it turns out; where nothing
    comes for a while, or the time of the request is over; ClientDisconnect where the client goes.
    """
    most = work.service.options.max_upload_mb * 1_000_000
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    stream, size, room = request.stream(), 0, 0
    while True:
        try:
            chunk = await asyncio.wait_for(_next(stream), min(STALLED_SECONDS, work.seconds_left))
        except asyncio.TimeoutError:
            if work.seconds_left <= 0:
                raise too_long() from None
            raise RequestError(
                408,
                f"the upload stopped for {STALLED_SECONDS:g} seconds: send the request again",
                code="upload_stalled",
            ) from None
        if chunk is None:
            return
        if work.job.reason is not None:
            raise work.job.reason
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        if size > room:
            check_room(_ROOM_STEP)
            room = size + _ROOM_STEP
        yield chunk


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
