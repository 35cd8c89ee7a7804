"""The graphs of a family of models: which there are, how each is recorded, and which are compiled together.

Each family is one file in families/; Whisper has five graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from max_whisper.errors import UserError
from max_whisper.lowering.ops import Program
from max_whisper.messages import one_of, quote, suggestion
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec


@dataclass(frozen=True)
class GraphRecipe:
    """How one graph is recorded, and which tools look into it."""

    record: Callable[[Spec, BuildPlan, Collection[str]], Program]  # with the kinds that the target has emitters for
    exposed: bool = False  # whether a verification looks at the layers of this graph
    timed: bool = False  # whether a benchmark times the kernels of this graph


Graphs = Mapping[str, Mapping[str, GraphRecipe]]
"""Recipes by module, then by the graph's name. A module is one file, and is compiled by a process of its own."""

_families: dict[str, Graphs] = {}


def register(family: str, graphs: Graphs) -> None:
    """Makes the graphs of a family of specs known. Raises ValueError where it has some already."""
    if family in _families:
        raise ValueError(f"two lists of graphs for the family {quote(family)}")
    _families[family] = graphs


def check_layers(spec: Spec, plan: BuildPlan) -> None:
    """Records every graph of a spec, so that mistakes in the `lower` of layers are found before anything is compiled.

    Raises SpecError at the line of the layer.
    """
    for recipe in recipes_of(spec.family):
        recipe.record(spec, plan, ())


def recipes_of(family: str) -> list[GraphRecipe]:
    """Returns the recipes of all graphs of a family. Raises UserError where nobody registered them."""
    return [recipe for module in graphs_of(family).values() for recipe in module.values()]


def graphs_of(family: str) -> Graphs:
    """Returns the graphs of a family. Raises UserError where nobody registered them."""
    import max_whisper.lowering.families  # noqa: F401 - importing the package registers them

    if family not in _families:
        known = f"expected {one_of(_families)}"
        raise UserError(f"no graphs for the family {quote(family)}: {known}{suggestion(family, _families)}")
    return _families[family]
