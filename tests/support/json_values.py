"""Finds and replaces parts of JSON values, for the fuzz tests. A path has a key or an index for each level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Path = tuple[Any, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yields the path of every part of a value, from the outside in; that of the whole is ()."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def put(value: Any, path: Path, new: Any) -> Any:
    """Returns a copy of `value` with `new` at a path; objects on the way are made where there are none."""
    if not path:
        return new
    key, *rest = path
    if isinstance(value, list) and isinstance(key, int):
        return [put(item, tuple(rest), new) if i == key else item for i, item in enumerate(value)]
    fields = value if isinstance(value, dict) else {}
    return {**fields, key: put(fields.get(key), tuple(rest), new)}
