"""Says where this user's caches are."""

from __future__ import annotations

import os
from pathlib import Path

from max_whisper.errors import UserError


def user_cache() -> Path:
    """Returns the folder of max-whisper in the user's cache, which need not exist.

    Its place is that of the XDG Base Directory Specification, which ignores relative paths. What lies there can be made
    again. It holds compiled code that is run, so it must be a folder to which only this user can write.

    Raises UserError where this user has no home.
    """
    for folder in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):  # noqa: PTH111
        if Path(folder).is_absolute():
            return Path(folder) / "max-whisper"
    raise UserError(
        "this user has no home folder for compiled code: set XDG_CACHE_HOME to a folder that only you can write to"
    )
