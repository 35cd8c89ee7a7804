"""Imports packages whose modules register something: layer kinds, decoding rules, writers, formats of weights."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache


@cache
def import_modules(package: str) -> None:
    """Imports every module of a package, once in a process, so that each registers its classes."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
