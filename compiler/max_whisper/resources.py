"""What ships with the package beside its Python: specs and kernels."""

from __future__ import annotations

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """A folder of the package where it is installed, of the repository where it is worked on."""
    package = Path(__file__).resolve().parent
    wheel, checkout = package / name, package.parent.parent / name
    return wheel if wheel.is_dir() else checkout
