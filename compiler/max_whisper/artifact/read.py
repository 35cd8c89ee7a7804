"""Reads manifest.json, and refuses one that is missing, damaged, contradictory or of another version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from max_whisper.artifact.consistency import check_consistency
from max_whisper.artifact.family import artifact_family
from max_whisper.artifact.manifest import MANIFEST_FILE, MANIFEST_VERSION, NO_HASH, WHISPER, Manifest
from max_whisper.artifact.rebuild import package_version, read_recipe, rebuild_command
from max_whisper.errors import ArtifactError
from max_whisper.records import Name

MAX_BYTES = 16 << 20
"""The most bytes of a manifest; that of large-v3 has 0.4 MB."""


class _Version(msgspec.Struct):
    manifest_version: int
    family: Name = WHISPER


def read_manifest(folder: Path) -> Manifest:
    """Returns the manifest of an artifact folder.

    Raises ArtifactError for a manifest that is missing, damaged, contradictory, or of another version.
    """
    path = folder / MANIFEST_FILE
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ArtifactError(f"{path}: expected at most {MAX_BYTES} bytes; build the artifact again")
        text = path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror}; expected the manifest of an artifact, build it again") from e
    try:
        kind = msgspec.json.decode(text, type=_Version)
        if kind.manifest_version != MANIFEST_VERSION:
            raise _other_version(path, kind.manifest_version, text)
        json.loads(text, object_pairs_hook=_unique)
        manifest = msgspec.json.decode(text, type=artifact_family(kind.family).manifest)
        check_consistency(manifest)
    except (ValueError, RecursionError) as e:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
        raise ArtifactError(f"{path}: {e}; the manifest is damaged, build the artifact again") from e
    actual = blake3(text.replace(manifest.hash.encode(), NO_HASH.encode(), 1)).hexdigest()
    if actual != manifest.hash:
        raise ArtifactError(
            f"{path}: expected content with BLAKE3 {manifest.hash[:16]}…, found {actual[:16]}…; "
            "the manifest was changed after the build, build the artifact again"
        )
    return manifest


def _other_version(path: Path, version: int, text: bytes) -> ArtifactError:
    """Returns the error for a manifest of another version, with the command that builds the artifact again."""
    newer = version > MANIFEST_VERSION
    recipe = read_recipe(text)
    builder = f"max-whisper {recipe.builder}" if recipe else f"{'a newer' if newer else 'an older'} max-whisper"
    return ArtifactError(
        f"{path}: manifest version {version} was written by {builder}, this is max-whisper {package_version()}, which "
        f"reads version {MANIFEST_VERSION}; {'upgrade max-whisper, or ' if newer else ''}build the artifact again: "
        f"{rebuild_command(path.parent, recipe)}"
    )


def holds(folder: Path, manifest: Manifest) -> bool:
    """Returns whether an artifact folder still has this manifest, by its hash."""
    try:
        return manifest.hash.encode() in (folder / MANIFEST_FILE).read_bytes()
    except OSError:
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; raises ValueError for a key that is there twice, of which msgspec would take the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"expected each key once, found {[key for key, _ in pairs][:100]}")
    return fields
