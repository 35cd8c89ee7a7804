"""Which part of the package may import which, read from the sources, so that imports in functions count too.

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
    "console",
    "errors",
    "files",
    "messages",
    "option_kinds",
    "options",
    "progress",
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
BELOW["tools"] = {*BELOW} | GROUND
BELOW["cli"] = {*BELOW} | GROUND
BELOW["__init__"] = {"compile", "runtime", "spec", "tools"} | GROUND
BELOW["__main__"] = {"__init__", "cli"} | GROUND
BELOW |= {name: GROUND for name in GROUND}


@cache
def imports() -> dict[str, set[str]]:
    """Returns the modules of the package that each module imports itself."""
    files = {module_name(file): file for file in ROOT.rglob("*.py")}
    return {name: {*imported(ast.parse(file.read_text()), {*files})} - {name} for name, file in files.items()}


def module_name(file: Path) -> str:
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


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Returns the sets of modules that reach each other by imports."""

    def reached(start: str) -> set[str]:
        visited: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - visited
            visited |= new
            waiting += new
        return visited

    reach = {name: reached(name) for name in graph}
    together = {name: frozenset(other for other in reach[name] if name in reach[other]) for name in graph}
    return [{*circle} for circle in sorted({*together.values()}, key=sorted) if circle]


def test_every_part_is_known() -> None:
    assert {part_of(module) for module in imports()} == {*BELOW}


@pytest.mark.parametrize("part", BELOW)
def test_arrows_run_down(part: str) -> None:
    up = {
        (module, other)
        for module, others in imports().items()
        for other in others
        if part_of(module) == part and part_of(other) not in BELOW[part] | {part}
    }
    assert up == set()


def test_floors_have_no_circle() -> None:
    assert circles({part: below - GROUND for part, below in BELOW.items()}) == []


def test_modules_have_no_circle() -> None:
    assert circles(imports()) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"e"}, "e": set()}) == [{"b", "c"}]


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
