"""Finds and fetches recordings behind URLs, by fsspec: s3://, gs://, http:// and whatever else is installed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from max_whisper.batch.inputs.local import is_pattern
from max_whisper.batch.inputs.source import Source, inner, is_recording
from max_whisper.errors import AudioError, Cancelled, UserError
from max_whisper.messages import printable

MAX_BYTES = 16 << 30
"""The most bytes of a recording that is fetched: 24 hours of 16-bit stereo WAV at 48 kHz."""
MAX_LIST_BYTES = 1 << 30
"""The most bytes of a list that is fetched."""
SILENCE = 60.0
"""The seconds for which a web server may say nothing."""
_WEB = ("http://", "https://")
_CHUNK = 1 << 20
_CHANGES = ("ETag", "etag", "LastModified", "Last-Modified", "Content-MD5", "md5Hash", "mtime", "updated", "created")
"""The names under which file systems tell what changes with the content."""


def find(url: str) -> Iterator[Source]:
    """Yields the recordings behind a URL: of a folder, of a pattern, or the one that it names.

    Raises UserError where it cannot be looked up.
    """
    system, path = _system(url)
    is_web = url.startswith(_WEB)  # which has no folders, and question marks that are no patterns
    try:
        if is_pattern(path) and not is_web:
            root = path[: min(map(path.find, (c for c in "*?[" if c in path)))].rpartition("/")[0]
            found = system.glob(path, detail=True)
            chosen = {name: info for name, info in found.items() if info.get("type") == "file"}
        elif not is_web and system.isdir(path):
            root = path.rstrip("/")
            found = system.find(path, detail=True)
            chosen = {name: info for name, info in found.items() if _is_taken(name.removeprefix(root))}
        else:
            yield Source(url, inner(path.rstrip("/").rpartition("/")[2]))
            return
    except Exception as error:  # of any file system
        raise UserError(f"{url} cannot be looked up ({_reason(error)}): check the address and your rights") from error
    for name, info in sorted(chosen.items()):
        below = name.removeprefix(root).lstrip("/")
        yield Source(system.unstrip_protocol(name), inner(below), int(info.get("size") or 0), _stamp(info))


@contextlib.contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """Yields a copy of a list behind a URL, open for reading. Raises UserError where it cannot be fetched."""
    with tempfile.TemporaryFile() as copy:
        try:
            _copy(url, copy, MAX_LIST_BYTES, lambda: False)
        except AudioError as error:
            raise UserError(str(error)) from error
        copy.seek(0)
        yield copy


def examined(source: Source) -> Source:
    """Returns a source with what is known of its content without fetching it. Raises AudioError."""
    system, path = _system(source.place)
    try:
        info = system.info(path)
    except Exception as error:  # of any file system
        raise _not_fetched(source.place, error) from error
    return Source(source.place, source.relative, int(info.get("size") or 0), _stamp(info))


def fetch(url: str, to: Path, stop: Callable[[], bool]) -> None:
    """Copies a recording to a new file.

    Raises AudioError where it cannot be fetched or is too large, OSError where the file cannot be written, and
    Cancelled where `stop` returns True.
    """
    with to.open("xb") as copy:
        _copy(url, copy, MAX_BYTES, stop)


def _copy(url: str, copy: IO[bytes], most: int, stop: Callable[[], bool]) -> None:
    system, path = _system(url)
    try:
        file = system.open(path, "rb")
    except Exception as error:  # of any file system
        raise _not_fetched(url, error) from error
    with file:
        size = 0
        while True:
            try:
                data = file.read(_CHUNK)
            except Exception as error:
                raise _not_fetched(url, error) from error
            if not data:
                return
            if stop():
                raise Cancelled
            size += len(data)
            if size > most:
                raise AudioError(f"{url} has more than {most} bytes, expected at most that: cut it into parts")
            copy.write(data)


def _system(url: str) -> tuple[Any, str]:
    """Returns the file system of a URL, and the path in there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UserError(f"{url}: URLs need the package fsspec: pip install 'max-whisper[batch]' ({error})") from error
    try:
        system, path = url_to_fs(url, **(_web_options() if url.startswith(_WEB) else {}))
    except Exception as error:  # ImportError: a library for this kind of URL is not installed
        raise UserError(f"{url} cannot be opened ({_reason(error)}): check the address") from error
    return system, str(path)


def _web_options() -> dict[str, Any]:
    """Returns the options of fsspec for web servers; without them, all of a recording must come in five minutes."""
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)}}


def _is_taken(below: str) -> bool:
    folders = below.strip("/").split("/")
    return is_recording(folders[-1]) and not any(part.startswith(".") for part in folders)


def _stamp(info: dict[str, Any]) -> str:
    changes = next((str(info[name]) for name in _CHANGES if info.get(name)), "")
    return f"{info.get('size')} {changes}" if changes else ""


def _not_fetched(url: str, error: Exception) -> AudioError:
    return AudioError(f"{url} cannot be fetched ({_reason(error)}): check the address and your rights")


def _reason(error: Exception) -> str:
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None and not isinstance(cause, LookupError):
        # Whatever a web server does, fsspec calls it a file that is not there, and names the URL alone.
        return printable(f"{type(cause).__name__}: {cause}", 300)
    return printable(str(error) or type(error).__name__, 300)
