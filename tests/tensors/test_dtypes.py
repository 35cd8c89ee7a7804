"""There is one table of dtypes: no other module has the names of safetensors, or lists dtypes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import max_whisper
import numpy as np
import pytest
from max_whisper.tensors.dtypes import (
    BUILD_DTYPES,
    BY_FORMAT,
    DTYPES,
    FLOAT_DTYPES,
    LOSSLESS_DTYPES,
    StoredDtype,
    byte_count,
)

PACKAGE = Path(max_whisper.__file__).parent
TABLE = PACKAGE / "tensors" / "dtypes.py"
OTHERS = {  # modules with tables by dtype of something that is no property of the dtype
    "tools/bench/peak_rates.py",  # instructions of a CPU
    "tools/verify/verify.py",  # tolerances
}
FORMAT = re.compile(rf"\b({'|'.join(BY_FORMAT)})\b")


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields every string of a module that is no docstring, with its line."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and _has_text(node.body)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def _has_text(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def lists(tree: ast.AST) -> Iterator[int]:
    """Yields the lines where two dtypes or more are listed: in a tuple (as in `Literal[...]`), list, set or as keys."""
    for node in ast.walk(tree):
        items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        named = [item for item in items if isinstance(item, ast.Constant) and item.value in DTYPES]
        if len(named) > 1:
            yield node.lineno


def findings(text: str) -> list[str]:
    """Returns the lines of a module that repeat a part of the table."""
    tree = ast.parse(text)
    named = [f"{line}: {text!r}" for line, text in strings(tree) if FORMAT.search(text)]
    return named + [f"{line}: a list of dtypes" for line in lists(tree)]


MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path != TABLE and str(path.relative_to(PACKAGE)) not in OTHERS
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dtypes_are_listed_in_the_table_alone(path: Path) -> None:
    assert findings(path.read_text()) == []


@pytest.mark.parametrize("path", sorted(OTHERS))
def test_exceptions_are_still_needed(path: str) -> None:
    assert (PACKAGE / path).exists() and findings((PACKAGE / path).read_text())


@pytest.mark.parametrize(
    "text",
    [
        'x = "F32"',
        'raise E(f"{x} is no BF16 tensor")',
        'def f():\n    """F32."""\n    return "I8"',
        'x = {"float32": 1, "int8": 2}',
        'x: Literal["float32", "bfloat16"]',
        'if x in ("bfloat16", "int8"): pass',
        'x = ["float16", "bfloat16"]',
    ],
)
def test_another_table_is_found(text: str) -> None:
    assert len(findings(text)) == 1


@pytest.mark.parametrize("text", ['"""F32."""', 'x = "float32"', 'x = {"float32": 1}', 'x = "amx_int8 F321"'])
def test_a_single_dtype_is_no_table(text: str) -> None:
    assert findings(text) == []


def test_the_table() -> None:
    assert len(DTYPES) == len(BY_FORMAT) == len({id(dtype) for dtype in DTYPES.values()})
    for dtype in DTYPES.values():
        assert dtype.numpy == dtype.numpy.newbyteorder("<")
        try:
            same = np.dtype(dtype.name)
        except TypeError:  # numpy has no such dtype: its bits
            assert dtype.numpy.kind == "u" and dtype.name.startswith(("bfloat", "float8"))
        else:
            assert dtype.numpy == same.newbyteorder("<")
    assert all(name in DTYPES for name in BUILD_DTYPES)
    assert all(name in DTYPES for name in get_args(StoredDtype))
    assert {dtype.name for dtype in LOSSLESS_DTYPES} < {dtype.name for dtype in FLOAT_DTYPES}
    assert byte_count("BF16", (2, 3)) == 12 and byte_count("F64", ()) == 8 and byte_count("I8", (5, 0)) == 0
