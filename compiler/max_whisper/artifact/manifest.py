"""manifest.json: what an artifact is, and everything that must hold for it to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
from blake3 import blake3

from max_whisper.artifact.consistency import check_consistency
from max_whisper.errors import ArtifactError
from max_whisper.plan import MAX_BATCH, SpecName, Target
from max_whisper.records import Dim, Hash, Id, Name, Natural, Record, Word
from max_whisper.tensors.dtypes import BUILD_DTYPES, LOSSLESS_DTYPES, STORED_FORMATS
from max_whisper.tokens import Tokens

FILE = "manifest.json"
VERSION = 4
MAX_BYTES = 16 << 20  # a manifest of large-v3 has 0.2 MB

UNSEALED = "0" * 64


class Source(Record, frozen=True):
    """Where the weights came from; neither for a local folder or file."""

    repo: Name | None
    commit: Word | None


class File(Record, frozen=True):
    size: Natural
    blake3: Hash


class Tensor(Record, frozen=True):
    """One of weights.safetensors."""

    name: Name
    dtype: Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(STORED_FORMATS)})\Z")]
    shape: Annotated[list[Dim], msgspec.Meta(max_length=8)]


class Port(Record, frozen=True):
    """An input or output of a graph."""

    name: Name
    dtype: Word
    shape: Annotated[list[Dim | Name], msgspec.Meta(max_length=8)]  # a name is a dimension that may vary


class Graph(Record, frozen=True):
    file: Name
    inputs: list[Port]
    outputs: list[Port]


HALVES = {dtype.format: dtype.name for dtype in LOSSLESS_DTYPES}


class Manifest(Record, frozen=True):
    """Everything that loading checks. It holds no time and no path, so that equal inputs give equal bytes."""

    manifest_version: Annotated[int, msgspec.Meta(ge=1)]
    hash: Hash  # BLAKE3 of this file with zeros in place of the hash itself
    builder: Word  # version of max-whisper
    max: Word  # version of MAX, which must be the same to run
    target: Target
    spec: SpecName
    source: Source
    dtype: Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(BUILD_DTYPES)})\Z")]  # of matrices
    batch: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]  # windows computed at once
    dims: dict[Name, Dim]  # of the spec, n_frames among them
    tokens: Tokens
    alignment_heads: list[tuple[Id, Id]]  # (layer, head) of the cross-attention that give words their times
    graphs: dict[Name, Graph]
    files: dict[str, File]  # every file of the folder but this one
    tensors: list[Tensor]

    @property
    def exact_halves(self) -> dict[str, str]:
        """The tensors that have 16 bits because these hold them exactly, and their dtypes (lowering/storage.py)."""
        if self.dtype != "float32":
            return {}
        return {tensor.name: HALVES[tensor.dtype] for tensor in self.tensors if tensor.dtype in HALVES}

    def sealed(self) -> bytes:
        """The file's content, its hash filled in."""
        text = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(self, hash=UNSEALED)), indent=1) + b"\n"
        return text.replace(UNSEALED.encode(), blake3(text).hexdigest().encode(), 1)


class _Version(msgspec.Struct):
    manifest_version: int


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an artifact folder, whose parts fit together.

    Raises ArtifactError for one that is missing, damaged, contradictory, or of another version.
    """
    path = folder / FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"{path}: expected at most {MAX_BYTES} bytes; build the artifact again")
        text = path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror}; expected the manifest of an artifact, build it again") from e
    try:
        version = msgspec.json.decode(text, type=_Version).manifest_version
        if version > VERSION:
            raise ArtifactError(
                f"{path}: manifest version {version} was written by a newer max-whisper, this one reads up to "
                f"{VERSION}; upgrade max-whisper or build the artifact again"
            )
        if version < VERSION:
            raise ArtifactError(
                f"{path}: manifest version {version} was written by an older max-whisper, this one reads {VERSION}; "
                "build the artifact again"
            )
        json.loads(text, object_pairs_hook=_unique)
        manifest = msgspec.json.decode(text, type=Manifest)
        check_consistency(manifest)
    except (ValueError, RecursionError) as e:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
        raise ArtifactError(f"{path}: {e}; the manifest is damaged, build the artifact again") from e
    found = blake3(text.replace(manifest.hash.encode(), UNSEALED.encode(), 1)).hexdigest()
    if found != manifest.hash:
        raise ArtifactError(
            f"{path}: expected content with BLAKE3 {manifest.hash[:16]}…, found {found[:16]}…; "
            "the manifest was changed after the build, build the artifact again"
        )
    return manifest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, none of whose keys is there twice: of those, msgspec takes the last without a word."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"expected each key once, found {[key for key, _ in pairs][:100]}")
    return fields


def holds(folder: Path, manifest: Manifest) -> bool:
    """Returns whether an artifact folder still has this manifest, which is known by its hash."""
    try:
        return manifest.hash.encode() in (folder / FILE).read_bytes()
    except OSError:
        return False
