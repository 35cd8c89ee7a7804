"""Registers the graphs of each family of models: how each is recorded, and which are compiled together.

Each family is one file in families/; Whisper has five graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from max_whisper.errors import UserError
from max_whisper.lowering.ops import Program
from max_whisper.messages import one_of, quote, suggestion
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec

RecordGraph: TypeAlias = Callable[[Spec, BuildPlan, Collection[str]], Program]
"""Records a graph; the collection has the kinds of ops that the backend has emitters for."""


@dataclass(frozen=True)
class GraphRecipe:
    """How one graph is recorded, and which tools look into it."""

    record: RecordGraph
    exposed: bool = False  # whether `verify` compares the layers of this graph
    timed: bool = False  # whether `bench` times the kernels of this graph


Graphs = Mapping[str, Mapping[str, GraphRecipe]]
"""Recipes by module, then by the graph's name. A module is one compiled file, made by a process of its own."""

_families: dict[str, Graphs] = {}


def register(family: str, graphs: Graphs) -> None:
    """Registers the graphs of a family of specs. Raises ValueError if the family has graphs already."""
    if family in _families:
        raise ValueError(f"two lists of graphs for the family {quote(family)}")
    _families[family] = graphs


def check_layers(spec: Spec, plan: BuildPlan) -> None:
    """Records every graph of a spec, so that errors in the `lower` of layers show before anything is compiled.

    Every op that has primitives is recorded as these, as for a backend without emitters of its own. Raises SpecError at
    the line of the layer.
    """
    for recipe in recipes_of(spec.family):
        recipe.record(spec, plan, ())


def recipes_of(family: str) -> list[GraphRecipe]:
    """Returns the recipes of all graphs of a family. Raises UserError for an unknown family."""
    return [recipe for module in graphs_of(family).values() for recipe in module.values()]


def graphs_of(family: str) -> Graphs:
    """Returns the graphs of a family by module. Raises UserError for an unknown family."""
    import max_whisper.lowering.families  # noqa: F401 - importing the package registers them

    if family not in _families:
        known = f"expected {one_of(_families)}"
        raise UserError(f"no graphs for the family {quote(family)}: {known}{suggestion(family, _families)}")
    return _families[family]


def timed_graphs(family: str) -> list[str]:
    """Returns the names of the graphs whose kernels `bench` times. Raises UserError for an unknown family."""
    modules = graphs_of(family).values()
    return [name for module in modules for name, recipe in module.items() if recipe.timed]
