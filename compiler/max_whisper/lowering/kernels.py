"""Where the Mojo sources of the custom ops are."""

from __future__ import annotations

from pathlib import Path

import max_whisper


def kernels_folder() -> Path:
    """A Mojo package; MAX compiles it when a graph uses it, and keeps the outcome."""
    package = Path(max_whisper.__file__).resolve().parent
    wheel, checkout = package / "kernels", package.parent.parent / "kernels"
    return wheel if wheel.is_dir() else checkout
