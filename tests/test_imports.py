"""Tests which part of the package may import which, by the sources, so that imports in functions count, too.

Imports for type checking alone count as well: a reader of a file has to follow them. That late imports stay late, so
that loading imports no compiler, is tested in tests/runtime/test_runtime_transcribe.py.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import max_whisper
import pytest

ROOT = Path(max_whisper.__file__).parent
GROUND = {
    "caches",
    "console",
    "errors",
    "files",
    "mel_filters",
    "messages",
    "option_kinds",
    "options",
    "progress",
    "python_process",
    "records",
    "registry",
    "resources",
    "tokens",
}

BELOW: dict[str, set[str]] = {
    "spec": GROUND,
    "tensors": {"spec"} | GROUND,
    "plan": {"tensors"} | GROUND,
    "weights": {"spec", "tensors"} | GROUND,
    "lowering": {"plan", "spec", "tensors"} | GROUND,
    "artifact": {"plan", "tensors"} | GROUND,
    "compile": {"artifact", "lowering", "plan", "spec", "tensors", "weights"} | GROUND,
    "runtime": {"artifact"} | GROUND,
}
BELOW["serve"] = {"artifact", "runtime"} | GROUND
BELOW["batch"] = {"artifact", "runtime"} | GROUND
BELOW["ray"] = {"artifact", "batch", "runtime"} | GROUND
BELOW["tools"] = {*BELOW} - {"batch", "ray", "serve"} | GROUND
BELOW["cli"] = {*BELOW} | GROUND
BELOW["__init__"] = {"batch", "compile", "runtime", "spec", "tools"} | GROUND
BELOW["__main__"] = {"__init__", "cli"} | GROUND
BELOW |= {name: GROUND for name in GROUND}
"""The parts that each part may import, besides itself. A part is a folder of max_whisper, or a file beside these."""

ROOMS: dict[str, dict[str, set[str]]] = {
    "runtime": {
        "arrays": set(),
        "results": set(),
        "features": set(),
        "audio": set(),
        "vad": {"audio"},
        "output": {"results"},
        "decoding": {"results"},
        "transcription": {"arrays", "audio", "decoding", "features", "results", "vad"},
        "streaming": {"audio", "decoding", "features", "results", "transcription", "vad"},
        "window_model": {"arrays", "audio", "decoding", "features", "results", "transcription"},
        "model": {"audio", "decoding", "results", "streaming", "transcription", "vad", "window_model"},
    },
    "lowering": {
        "ops": set(),
        "kernel_calls": set(),
        "shapes": {"ops"},
        "decoder_context": {"ops"},
        "builder": {"decoder_context", "ops", "shapes"},
        "passes": {"ops"},
        "backends": {"kernel_calls", "ops", "passes"},
        "emit": {"kernel_calls", "ops", "passes", "backends"},
        "family": {"families", "ops"},
        "families": {"builder", "decoder_context", "family", "ops", "shapes"},
        "lower": {"emit", "family", "kernel_calls", "ops", "passes", "backends"},
    },
    "tools": {
        "options": set(),
        "layers": set(),
        "inspect": {"layers"},
        "bench": {"options"},
        "eval": {"options"},
        "verify": {"options"},
    },
}
"""Within some parts, the rooms that each room may import, besides itself: its folders and its files."""

COMPILER = {"spec", "lowering", "compile", "weights"}
"""The parts that a loaded artifact runs without."""


@cache
def imports() -> dict[str, set[str]]:
    """Returns the modules of the package that each module imports itself, without those that these import."""
    files = {module_name(file): file for file in ROOT.rglob("*.py")}
    return {name: {*imported(ast.parse(file.read_text()), {*files})} - {name} for name, file in files.items()}


def module_name(file: Path) -> str:
    """Returns the dotted name of a file of the package."""
    parts = [ROOT.name, *file.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    """Yields the modules that import statements name, after `from` or after `import`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & modules
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from {inner if inner in modules else node.module} & modules


def part_of(module: str) -> str:
    """Returns the part that a module is in: a folder of max_whisper, or a file beside these."""
    return [*module.split("."), "__init__"][1]


def room_of(module: str) -> str:
    """Returns the room of its part that a module is in: a folder, a file beside these, or "" for the part's own."""
    return [*module.split("."), "", ""][2]


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Returns the modules that a module imports, and those that these import, and so on."""
    visited: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - visited
        visited |= new
        waiting += new
    return visited


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Returns the sets of modules that reach each other by imports."""
    reach = {name: reached(graph, name) for name in graph}
    together = {name: frozenset(other for other in reach[name] if name in reach[other]) for name in graph}
    return [{*circle} for circle in sorted({*together.values()}, key=sorted) if circle]


def arrows_up(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Returns the imports of a module from a part that is not below its own."""
    arrows = {(module, other) for module, others in graph.items() for other in others}
    return {(a, b) for a, b in arrows if part_of(b) not in BELOW[part_of(a)] | {part_of(a)}}


def arrows_between_rooms(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Returns the imports of a module from a room of the same part that is not below its own."""
    arrows = {(a, b) for a, others in graph.items() for b in others if part_of(a) == part_of(b) in ROOMS}
    return {(a, b) for a, b in arrows if room_of(b) not in ROOMS[part_of(a)].get(room_of(a), set()) | {room_of(a)}}


def runtime_with_a_compiler(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Returns the modules of the runtime from which imports lead to the compiler's, and these."""
    runtime = [module for module in graph if part_of(module) == "runtime"]
    return {(a, b) for a in runtime for b in reached(graph, a) if part_of(b) in COMPILER}


def test_every_part_and_room_is_known() -> None:
    assert {part_of(module) for module in imports()} == {*BELOW}
    for part, rooms in ROOMS.items():
        assert {room_of(module) for module in imports() if part_of(module) == part} == {*rooms, ""}


def test_arrows_run_down() -> None:
    assert arrows_up(imports()) == set()


def test_arrows_between_rooms_run_down() -> None:
    assert arrows_between_rooms(imports()) == set()


def test_the_runtime_leads_to_no_compiler() -> None:
    assert runtime_with_a_compiler(imports()) == set()


def test_floors_have_no_circle() -> None:
    assert circles({part: below - GROUND for part, below in BELOW.items()}) == []
    for part in ("runtime", "tools"):  # lowering's families register themselves with `family`, which imports them late
        assert circles(ROOMS[part]) == []


def test_modules_have_no_circle() -> None:
    assert circles(imports()) == []


def planted(module: str, *others: str) -> dict[str, set[str]]:
    """Returns the imports of the package, and of one module of it also these."""
    assert {module, *others} <= {*imports()}
    return {**imports(), module: imports()[module] | {*others}}


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"e"}, "e": set()}) == [{"b", "c"}]
    (circle,) = circles(planted("max_whisper.runtime.results", "max_whisper.runtime.model"))
    assert circle >= {"max_whisper.runtime.results", "max_whisper.runtime.model"}


@pytest.mark.parametrize(
    ("module", "other"),
    [("errors", "spec.layer"), ("spec.layer", "tensors.layout"), ("artifact.load", "runtime.model"), ("plan", "cli")],
)
def test_an_arrow_up_is_found(module: str, other: str) -> None:
    arrow = (f"max_whisper.{module}", f"max_whisper.{other}")
    assert arrows_up(planted(*arrow)) == {arrow}


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("runtime.results", "runtime.decoding.tokenizer"),
        ("runtime.output.writers", "runtime.transcription.options"),
        ("runtime.audio.mel", "runtime.results"),
        ("lowering.passes.fuse", "lowering.builder"),
        ("tools.inspect", "tools.bench.bench"),
    ],
)
def test_an_arrow_between_rooms_is_found(module: str, other: str) -> None:
    arrow = (f"max_whisper.{module}", f"max_whisper.{other}")
    assert arrows_between_rooms(planted(*arrow)) == {arrow}


def test_a_way_to_the_compiler_is_found() -> None:
    """A module far below leads the runtime there: no module of the runtime need name the compiler."""
    found = runtime_with_a_compiler(planted("max_whisper.artifact.manifest", "max_whisper.spec.layer"))
    assert ("max_whisper.runtime.model", "max_whisper.spec.layer") in found


def test_what_is_imported_is_found() -> None:
    source = """
import max_whisper.errors, os
from max_whisper.spec import Spec, layer
def late():
    from max_whisper.plan import Target
if TYPE_CHECKING:
    from max_whisper.runtime.model import Model
"""
    names = ("errors", "plan", "runtime.model", "spec", "spec.layer")
    assert {*imported(ast.parse(source), {*imports()})} == {f"max_whisper.{name}" for name in names}
