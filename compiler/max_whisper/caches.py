"""Says where this user's caches are."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Returns the folder of max-whisper in the user's cache, which need not exist.

    Its place is that of the XDG Base Directory Specification, which ignores relative paths. What lies there can be made
    again. It holds compiled code that is run, so it must be a folder to which only this user can write.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "max-whisper"
