"""Packages whose modules register what is in them: layer kinds, families of models, formats of weights."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache


@cache
def import_modules(package: str) -> None:
    """Imports every module of a package, once in a process, so that all of them have registered what they define."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
