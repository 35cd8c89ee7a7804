"""Finds recordings in folders and by patterns, on this machine."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from max_whisper.batch.inputs.source import Source, inner, is_recording, local_source
from max_whisper.errors import UserError
from max_whisper.messages import printable

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(text: str) -> bool:
    """Returns whether a text is a pattern, as shells have them."""
    return _MAGIC.search(text) is not None


def in_folder(folder: str, out: Path) -> Iterator[Source]:
    """Yields the recordings in a folder and those below it, in the order of their names.

    Left out are hidden files and folders, links to folders, and the folder of the results. Raises UserError for a
    folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        if error.errno == errno.ENOENT and error.filename != folder:
            return  # it was removed meanwhile
        raise UserError(
            f"the folder {error.filename} cannot be read ({error.strerror}): change its permissions, or leave it out"
        ) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        kept = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in kept if not _is(os.path.join(parent, name), out))  # noqa: PTH118
        for name in sorted(filter(is_recording, names)):
            path = os.path.join(parent, name)  # noqa: PTH118 (Path would change the text)
            yield local_source(path, os.path.relpath(path, folder).replace(os.sep, "/"))


def by_pattern(pattern: str, out: Path) -> Iterator[Source]:
    """Yields the files that fit a pattern, in the order of the names; `**` stands for any folders.

    Hidden ones are left out unless the pattern names them. Raises UserError for what is no pattern.
    """
    beginning = _MAGIC.split(pattern, maxsplit=1)[0]
    root = os.path.dirname(beginning) or "."  # noqa: PTH120
    rest = pattern[len(root) :].lstrip(os.sep) if beginning.startswith(root) else pattern
    try:
        found = sorted({*Path(root).glob(rest)})  # unlike the module glob, it does not follow links to folders for `**`
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{printable(pattern)} is no pattern ({error}): correct it, or give a folder") from error
    for path in found:
        below = path.relative_to(root)
        hidden = any(part.startswith(".") for part in below.parts) and "/." not in f"/{rest}"
        if not hidden and not path.is_dir() and not any(_is(str(parent), out) for parent in path.parents):
            yield local_source(str(path), inner(below.as_posix()))


def _is(path: str, folder: Path) -> bool:
    try:
        return Path(path).samefile(folder)
    except OSError:
        return False
