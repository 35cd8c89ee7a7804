"""Families of models: the lists of layers and the dimensions that their specs have, and how these become trees.

Whisper is the family of a spec that names none; `family: silero` would be another. A family is one file in families/,
and one in lowering/families/ for its graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from max_whisper.spec.document import Place
from max_whisper.spec.layer import Layer
from max_whisper.spec.tree import Sequence

DEFAULT = "whisper"

Layers: TypeAlias = Mapping[str, tuple[Layer, ...]]


@dataclass(frozen=True)
class Family:
    """A family of models."""

    name: str
    parts: Mapping[str, str]  # a description of each list of layers by its key in a spec, in order of execution
    windowed: tuple[str, ...]  # the parts that see a whole window of rows at once; our kernels want them packed
    required_dims: tuple[str, ...]
    other_dims: tuple[str, ...]  # dimensions that a spec may give though no layer uses them
    expand: Callable[[Layers, Mapping[str, int], Mapping[str, Place]], dict[str, Sequence]]
    """Takes the layers of each part as written, the dimensions, and where each part begins; returns the trees.

    Raises SpecError where they do not fit together.
    """

    @property
    def known_dims(self) -> tuple[str, ...]:
        """All dimensions that the family gives a meaning."""
        return self.required_dims + self.other_dims


_families: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Makes a family known to specs. Raises ValueError where there is another of this name."""
    if family.name in _families:
        raise ValueError(f"two families of the name {family.name!r}")
    _families[family.name] = family
    return family


def families() -> Mapping[str, Family]:
    """Returns all families by name."""
    import max_whisper.spec.families  # noqa: F401 - importing the package registers them

    return _families
