"""jsonl: an object of JSON a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from max_whisper.batch.inputs.manifest import COLUMNS, Listed, lines, listed, register
from max_whisper.errors import UserError
from max_whisper.messages import validation_message


@register(".jsonl")
def jsonl(file: BinaryIO, name: str) -> Iterator[Listed]:
    """Yields what the field of the recording names."""
    for place, line in lines(file, name):
        try:
            row = msgspec.json.decode(line.encode(errors="surrogateescape"), type=dict[str, Any])
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise UserError(f"{place}: {validation_message(error)}; expected an object of JSON") from error
        named = [row[column] for column in COLUMNS if column in row]
        if len(named) != 1 or not isinstance(named[0], str):
            raise UserError(f"{place}: expected one field of {', '.join(COLUMNS)} with text in it")
        yield listed(place, named[0])
