"""Tests the rules of the house that no linter knows, by the sources; CONTRIBUTING.md says why they are rules."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import max_whisper
import pytest
from conftest import ROOT

PACKAGE = Path(max_whisper.__file__).parent
LONGEST_FILE = 300  # lines
TOO_LONG = {"runtime/decoding/options.py", "weights/hub.py", "weights/vocabulary.py"}
"""The files that are still to be split."""
PROGRAMS = [
    path for folder in ("benchmarks", "examples", "tests/golden") for path in sorted((ROOT / folder).rglob("*.py"))
]


def sources(folder: Path) -> dict[str, str]:
    """Returns the text of each Python file in a folder, by its path in there."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))}


def long_files(files: dict[str, str]) -> list[str]:
    """Returns the files of too many lines."""
    return [name for name, text in files.items() if len(text.splitlines()) > LONGEST_FILE]


def classes_of_several_bases(files: dict[str, str]) -> list[str]:
    """Returns the classes that are derived from more than one other."""
    trees = {name: ast.parse(text) for name, text in files.items()}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [node.name for node in classes if len(node.bases) > 1]


def untyped_keywords(source: str, public: set[str]) -> Iterator[str]:
    """Yields the public functions, and methods of public classes, that take any keywords: `**options: Any`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public:
            functions = node.body if isinstance(node, ast.ClassDef) else [node]
            for function in functions:
                if isinstance(function, ast.FunctionDef) and function.args.kwarg is not None:
                    annotation = function.args.kwarg.annotation
                    if annotation is None or ast.unparse(annotation) in ("Any", "_Any", "object"):
                        yield function.name


def missing_imports(source: str) -> Iterator[str]:
    """Yields what a program imports from the package or from `benchmarks` and is not there."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in ("max_whisper", "benchmarks")
        ):
            module = importlib.import_module(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names if not hasattr(module, alias.name))


def test_no_file_is_long() -> None:
    assert {*long_files(sources(PACKAGE))} <= TOO_LONG


def test_no_class_of_lowering_has_several_bases() -> None:
    assert classes_of_several_bases(sources(PACKAGE / "lowering")) == []


def test_no_public_function_takes_any_keywords() -> None:
    public = {*max_whisper.__all__}
    modules = {getattr(getattr(max_whisper, name), "__module__", None) for name in public} - {None}
    assert "max_whisper.runtime.model" in modules
    files = [Path(importlib.import_module(module).__file__ or "") for module in modules]
    assert [name for file in files for name in untyped_keywords(file.read_text(), public)] == []


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_programs_import_what_is_there(path: Path) -> None:
    """Programs that need libraries which are not here are not run by any test."""
    assert [*missing_imports(path.read_text())] == []


def test_a_violation_is_found() -> None:
    assert long_files({"a.py": "x\n" * 300, "b.py": "x\n" * 301}) == ["b.py"]
    assert classes_of_several_bases({"a.py": "class A(B): ...\nclass C(A, B): ..."}) == ["C"]
    source = """
def load(**options: Any): ...
def build(**options: Unpack[BuildKeywords]): ...
def _private(**options: Any): ...
class Model:
    def decode(self, *, beam_size: int, **options): ...
    def encode(self, **unknown: NoReturn): ...
"""
    assert [*untyped_keywords(source, {"load", "build", "Model"})] == ["load", "decode"]
    source = "from max_whisper import load, nothing\ndef f():\n    from max_whisper.runtime.results import Word, Wort"
    assert [*missing_imports(source)] == ["max_whisper.nothing", "max_whisper.runtime.results.Wort"]
