"""The contents of manifest.json: what an artifact is, and everything that must hold for it to run."""

from __future__ import annotations

from typing import Annotated

import msgspec
from blake3 import blake3

from max_whisper.plan import BuildPlan
from max_whisper.records import Dim, Hash, Name, Natural, Record, Word
from max_whisper.tokens import Tokens

FILE = "manifest.json"
VERSION = 5
UNSEALED = "0" * 64


class Source(Record, frozen=True):
    """Where the weights came from on the Hub; both are None for a local folder or file."""

    repo: Name | None
    commit: Word | None


class File(Record, frozen=True):
    """A file of the folder."""

    size: Natural
    blake3: Hash


class Port(Record, frozen=True):
    """An input or output of a graph."""

    name: Name
    dtype: Word
    shape: Annotated[list[Dim | Name], msgspec.Meta(max_length=8)]  # a name is a dimension that may vary


class Graph(Record, frozen=True):
    """A compiled graph."""

    file: Name
    inputs: list[Port]
    outputs: list[Port]


class Manifest(Record, frozen=True):
    """Everything that loading checks. It holds no time and no path, so that equal inputs give equal bytes."""

    manifest_version: Annotated[int, msgspec.Meta(ge=1)]
    hash: Hash  # BLAKE3 of this file with zeros in place of the hash itself
    builder: Word  # version of max-whisper
    max: Word  # version of MAX, which must be the same to run
    plan: BuildPlan  # for which machine it was compiled and how, and every tensor of weights.safetensors
    source: Source
    dims: dict[Name, Dim]  # of the spec, n_frames among them
    tokens: Tokens
    graphs: dict[Name, Graph]
    files: dict[str, File]  # every file of the folder but this one

    def sealed(self) -> bytes:
        """Returns the file's content, with its hash filled in."""
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(self, hash=UNSEALED)), indent=1) + b"\n"
        return text.replace(UNSEALED.encode(), blake3(text).hexdigest().encode(), 1)
