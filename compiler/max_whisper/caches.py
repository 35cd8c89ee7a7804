"""Says where this user's caches are."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Returns the folder of max-whisper in the user's cache (XDG Base Directory Specification), which need not exist.

    What lies there can be made again. Code is run from it, so nobody else may write to it.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "max-whisper"
