"""The documentation: generated parts are up to date, links lead somewhere, and files agree about versions."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import max_whisper
import numpy as np
import pytest
from max.dtype import DType
from max.graph import DeviceRef, Graph, TensorType
from max_whisper.lowering.backends.emission import Context
from max_whisper.weights import source

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)")
IGNORED = {".venv", ".cache", "build", "node_modules"}

PAGES = sorted(path for path in ROOT.rglob("*.md") if not IGNORED & {*path.relative_to(ROOT).parts})


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as forges and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text()


def test_generated_parts_are_up_to_date() -> None:
    """In a process of its own: other tests may have registered formats or kinds of layers in this one."""
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_part_is_found() -> None:
    generator = load_generator()
    page = (ROOT / "docs" / "spec-language.md").read_text()
    assert generator.generated(page) == page
    assert generator.generated(page.replace("### `conv1d`", "### `conv2d`")) == page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    wrong = []
    for link in LINK.findall(text):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    missing = [page for page in pages if page not in navigation]
    assert missing == []


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    missing = [name for name in max_whisper.__all__ if not re.search(rf"max_whisper\.{name}\b", text)]
    assert missing == []


def templates() -> list[str]:
    """Returns all texts in the package, with a gap where a value is filled in."""
    found = []
    for file in Path(max_whisper.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"{\w+}", "\0", node.value))
    return found


def test_the_errors_of_troubleshooting_exist() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    quotes = [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]
    known = templates()

    def exists(quote: str) -> bool:
        pattern = re.compile(".*?".join(re.escape(part) for part in re.split(r" ?\.\.\. ?", quote)), re.DOTALL)
        return any(pattern.search(text) for text in known)

    assert len(quotes) > 20
    assert [quote for quote in quotes if not exists(quote)] == []


def program_of(page: str) -> str:
    """Returns the first program of a page."""
    text = (ROOT / "docs" / page).read_text()
    return str(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0])


def test_the_program_of_adding_a_weights_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_formats", dict(source.known_formats()))
    exec(program_of("adding-a-weights-source.md"), {})
    weight = np.arange(6, dtype=np.float16).reshape(2, 3)
    np.save(tmp_path / "decoder.ln.weight.npy", weight)
    opened = source.open_source(tmp_path)
    (name,) = opened.names()
    assert name in opened.renames.candidates("model.decoder.layer_norm.weight")
    info = opened.info(name)
    assert (info.dtype.name, info.shape, info.file.parent) == ("float16", (2, 3), tmp_path)
    assert (opened.read(name) == weight).all()


def test_the_program_of_adding_a_kernel() -> None:
    made: dict[str, Any] = {}
    exec(program_of("adding-a-kernel.md"), made)
    assert made["EMITTERS"].keys() == {"rmsnorm"} and made["COSTS"].keys() == {"rms_norm"}
    with Graph("graph", input_types=[TensorType(DType.float32, shape, DeviceRef.CPU()) for shape in ([1, 5, 8], [8])]):
        x, weight = (value.tensor for value in Graph.current.inputs)
        call = made["rmsnorm"](Context(DeviceRef.CPU(), "float32"), x, weight, eps=1e-5)
    assert call.kernel == "rms_norm" and [list(map(int, kind.shape)) for kind in call.results] == [[1, 5, 8]]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_linters_are_the_same_everywhere() -> None:
    (extra,) = re.findall(r"^lint = \[(.*)\]$", pyproject(), re.MULTILINE)
    pins = re.findall(r"(\w+)==([\d.]+)", extra)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert {name for name, _ in pins} == {"ruff", "mypy"}
    for name, version in pins:
        assert {*re.findall(rf"\b{name}==([\d.]+)", hooks)} == {version}


def test_versions_of_python_are_the_same_everywhere() -> None:
    found = re.findall(r"Python :: (3\.\d+)", pyproject())
    first, last = found[0], found[-1]
    assert f'requires-python = ">={first}"' in pyproject()
    for page in ("README.md", "docs/getting-started.md"):
        assert f"Python {first} to {last}" in (ROOT / page).read_text()
    major, minor = last.split(".")
    assert f'python = ">={first},<{major}.{int(minor) + 1}"' in (ROOT / "pixi.toml").read_text()
