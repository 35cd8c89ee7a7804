"""Finds recordings in folders and by patterns, on this machine."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from max_whisper.batch.inputs.source import Source, is_recording, local_source
from max_whisper.errors import UserError

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
    """Yields what fits a pattern, in the order of the names; `**` stands for any folders."""
    beginning = _MAGIC.split(pattern, maxsplit=1)[0]
    root = os.path.dirname(beginning) or "."  # noqa: PTH120
    for path in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 (it takes absolute patterns as well)
        below = any(_is(str(parent), out) for parent in Path(path).parents)
        if not below and not path.endswith(os.sep):
            yield local_source(path, os.path.relpath(path, root).replace(os.sep, "/"))


def _is(path: str, folder: Path) -> bool:
    try:
        return Path(path).samefile(folder)
    except OSError:
        return False
