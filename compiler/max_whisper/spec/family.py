"""What the specs of one family of models have in common: their lists of layers, their dimensions, what must fit.

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
    parts: Mapping[str, str]  # the keys of its lists of layers, in order of execution, and what each is from and to
    windowed: tuple[
        str, ...
    ]  # the parts that see a whole window of rows at once, for which kernels want packed weights
    required_dims: tuple[str, ...]
    other_dims: tuple[str, ...]  # that a spec may give though no layer uses them
    expand: Callable[[Layers, Mapping[str, int], Mapping[str, Place]], dict[str, Sequence]]
    """Takes the layers of each part as written, the dimensions, and where each part begins; returns the trees.

    Raises SpecError where they do not fit together.
    """

    @property
    def known_dims(self) -> tuple[str, ...]:
        """All dimensions that have a meaning of their own."""
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
