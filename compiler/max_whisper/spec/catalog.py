"""The specs that ship with the package."""

from __future__ import annotations

from pathlib import Path

from max_whisper.errors import SpecError
from max_whisper.files import expanded, is_regular, is_there
from max_whisper.messages import nearest, quote
from max_whisper.resources import shipped_folder


def shipped_specs() -> dict[str, Path]:
    """Returns the files of the shipped specs by name ("tiny", "large-v3"), sorted, from `specs/` and its folders."""
    return {path.name.removesuffix(".yaml"): path for path in sorted(shipped_folder("specs").glob("**/*.yaml"))}


def locate(name: str | Path) -> tuple[Path, str]:
    """Returns the file of a spec, and its name in messages.

    `name` is a path, or else the name of a shipped spec, with or without ".yaml". Raises SpecError with the nearest
    shipped name if it is neither.
    """
    text = str(name)
    path = expanded(text)
    shipped = shipped_specs()
    key = text.removesuffix(".yaml")
    if is_regular(path) or (key not in shipped and is_there(path)):  # a folder called `tiny` does not hide the spec
        return path, str(path)
    if key in shipped:
        return shipped[key], f"{key}.yaml"
    match = nearest(path.name.removesuffix(".yaml").removesuffix(".yml"), shipped)
    hint = f"; did you mean {quote(match + '.yaml')}?" if match else ""
    known = ", ".join(shipped)
    raise SpecError(f"{quote(text)}: expected a spec file or the name of a shipped spec, one of {known}{hint}")
