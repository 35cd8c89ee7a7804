"""Finds the files that ship with the package beside its Python code: specs and kernels."""

from __future__ import annotations

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """Returns a folder of the installed package, or of the repository if the package runs from there."""
    package = Path(__file__).resolve().parent
    wheel, checkout = package / name, package.parent.parent / name
    return wheel if wheel.is_dir() else checkout
