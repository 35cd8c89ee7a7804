"""Finds the recordings that the user names: each input is a folder, a pattern, a manifest, a recording or a URL."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from max_whisper.batch.inputs import local, remote
from max_whisper.batch.inputs.manifest import Listed, Reader, reader_of
from max_whisper.batch.inputs.source import Source, inner, is_url, local_source
from max_whisper.errors import UserError
from max_whisper.files import expanded, is_folder, is_there, open_regular
from max_whisper.messages import printable

_HERE = ("file://", "local://")
_ELSEWHERE = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "hf")
"""The kinds of URLs that a list from elsewhere may name, besides its own."""


def find_all(inputs: Iterable[str], out: Path) -> list[Source]:
    """Returns the recordings of all inputs, each place once.

    Args:
        inputs: The inputs as the user gave them.
        out: The folder of the results, in which no recordings are looked for.

    Raises:
        UserError: An input is not there or cannot be read, a line of a manifest is wrong, or no recording was found.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        before = len(found)
        count = 0
        for source in _find(given, out):
            found.setdefault(source.place, source)
            count += 1
        if not count and before == len(found):
            raise UserError(f"{printable(given)}: there is no recording in it; give a folder or a list that has some")
    return [*found.values()]


def _find(given: str, out: Path) -> Iterator[Source]:
    if given.startswith(_HERE):
        given = given.partition("://")[2]
    if is_url(given):
        reader = reader_of(given)
        if reader is None:
            yield from remote.find(given)
            return
        with remote.opened(given) as file:
            base = given.rpartition("/")[0]
            yield from (_listed_behind(listed, base) for listed in reader(file, given))
        return
    path = str(expanded(given))
    if is_folder(Path(path)):
        yield from local.in_folder(path, out)
    elif is_there(Path(path)):
        reader = reader_of(path)
        if reader is None:
            yield local_source(path, os.path.basename(path))  # noqa: PTH119
        else:
            yield from _manifest(path, reader)
    elif local.is_pattern(path):
        yield from local.by_pattern(path, out)
    else:
        raise UserError(
            f"there is no file or folder {printable(given)}: give a folder, a pattern, a list of recordings "
            "(txt, tsv, csv, jsonl, parquet), or a URL"
        )


def _manifest(path: str, reader: Reader) -> Iterator[Source]:
    try:
        with open_regular(Path(path)) as file:
            yield from (_listed_here(listed, os.path.dirname(path)) for listed in reader(file, path))  # noqa: PTH120
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give a list of recordings") from error


def _listed_here(listed: Listed, folder: str) -> Source:
    path = listed.path.partition("://")[2] if listed.path.startswith(_HERE) else listed.path
    if is_url(path):
        return Source(path, inner(path.rpartition("/")[2]))
    return local_source(os.path.join(folder, expanded(path)), inner(path))  # noqa: PTH118


def _listed_behind(listed: Listed, base: str) -> Source:
    """Returns a recording of a manifest that came from elsewhere, which must not name files of this machine."""
    path = listed.path
    allowed = {*_ELSEWHERE, base.partition("://")[0].lower()}
    strange = is_url(path) and path.partition("://")[0].lower() not in allowed
    # fsspec chains file systems by "::", of which one may be that of this machine.
    if path.startswith(("/", "~")) or "::" in path or strange:
        raise UserError(
            f"{listed.place}: expected a path relative to the list, or a URL with one of {', '.join(sorted(allowed))}, "
            f"got {printable(path, 200)}"
        )
    if is_url(path):
        return Source(path, inner(path.rpartition("/")[2]))
    return Source(f"{base}/{path}", inner(path))
