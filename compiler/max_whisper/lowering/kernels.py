"""Where the Mojo sources of the custom ops are."""

from __future__ import annotations

from pathlib import Path

from max_whisper.shipped import shipped_folder


def kernels_folder() -> Path:
    """A Mojo package; MAX compiles it when a graph uses it, and keeps the outcome."""
    return shipped_folder("kernels")
