"""Families of models: the parts and the dimensions that a spec of the family has, and the trees that they become.

A spec that names no family is a Whisper. A family is one file in `families/`, and one in `lowering/families/` for its
graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from max_whisper.spec.document import SourceLocation
from max_whisper.spec.layer import Layer
from max_whisper.spec.tree import ModelPart

DEFAULT = "whisper"

Layers: TypeAlias = Mapping[str, tuple[Layer, ...]]


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        name: The name of the family in specs.
        parts: The lists of layers that a spec has, in order of execution: a description of each, by its key.
        window_parts: The parts that compute a whole window of rows at once, whose matrices are packed for our kernels.
        required_dims: The dimensions that a spec must give: a description of each, by its name.
        other_dims: The dimensions that a spec may give although no layer uses them, described in the same way.
        dtypes: The dtypes that matrices may have in a build, the default first; those of the kernels if it is empty.
        kernels: The kernels that the graphs can be compiled with.
        expand: A function that takes the layers of each part as they are written, the dimensions, and the places in the
            spec where the parts begin, and returns the trees. It raises SpecError where they do not fit together.
    """

    name: str
    parts: Mapping[str, str]
    window_parts: tuple[str, ...]
    required_dims: Mapping[str, str]
    other_dims: Mapping[str, str]
    expand: Callable[[Layers, Mapping[str, int], Mapping[str, SourceLocation]], dict[str, ModelPart]]
    dtypes: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ("ours", "max")

    @property
    def known_dims(self) -> Mapping[str, str]:
        """All dimensions that have a meaning in the family: a description of each, by its name."""
        return {**self.required_dims, **self.other_dims}


_families: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Makes a family known to specs, and returns it; raises ValueError where there is another of this name."""
    if family.name in _families:
        raise ValueError(f"two families of the name {family.name!r}")
    _families[family.name] = family
    return family


def families() -> Mapping[str, Family]:
    """Returns all families by name."""
    import max_whisper.spec.families  # noqa: F401 - importing the package registers them

    return _families
