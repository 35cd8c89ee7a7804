"""What the artifacts of a family of models hold; each family is one file in families/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from max_whisper.artifact.manifest import Manifest, Port
from max_whisper.messages import one_of

Shape: TypeAlias = "tuple[int | None, ...]"
"""The shape of a port, with None for a dimension that varies."""
Signature: TypeAlias = "list[tuple[str, str, Shape]]"
"""The name, dtype and shape of each input, or of each output, of a graph."""
Signatures: TypeAlias = "dict[str, tuple[Signature, Signature]]"
"""The inputs and the outputs of each graph, by its name."""


@dataclass(frozen=True)
class ArtifactFamily:
    """What the artifacts of a family hold.

    Attributes:
        name: The name of the family.
        manifest: The type of their manifests.
        files: The files that they have beside the spec, the weights and the graphs.
        graphs: The file of each graph, by the name of the graph.
        first_graphs: The graphs that run before others, once per window.
        dims: The dimensions that a manifest must have.
        check: Raises ValueError where parts of a manifest contradict each other.
        signatures: Returns the inputs and outputs that each graph must have.
        check_files: Raises ArtifactError where a file in the folder does not fit the manifest.
    """

    name: str
    manifest: type[Manifest]
    files: tuple[str, ...]
    graphs: Mapping[str, str]
    first_graphs: tuple[str, ...]
    dims: tuple[str, ...]
    check: Callable[[Any], None]
    signatures: Callable[[Any], Signatures]
    check_files: Callable[[Path, Any], None]


_families: dict[str, ArtifactFamily] = {}


def register(family: ArtifactFamily) -> None:
    """Registers the artifacts of a family. Raises ValueError where there are others of this name."""
    if family.name in _families:
        raise ValueError(f"two artifacts of the family {family.name!r}")
    _families[family.name] = family


def artifact_family(name: str) -> ArtifactFamily:
    """Returns the family of a name. Raises ValueError where there is none."""
    import max_whisper.artifact.families  # noqa: F401 - importing the package registers them

    if name not in _families:
        raise ValueError(f"expected {one_of(_families)} as the family, found '{name}'")
    return _families[name]


def shape_of(port: Port) -> Shape:
    """Returns the shape of a port."""
    return tuple(dim if isinstance(dim, int) else None for dim in port.shape)
