"""txt: a path or a URL a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from max_whisper.batch.inputs.manifest import Listed, lines, listed, register


@register(".txt")
def text(file: BinaryIO, name: str) -> Iterator[Listed]:
    """Yields what each line names."""
    for place, line in lines(file, name):
        yield listed(place, line.strip())
