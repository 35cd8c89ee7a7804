"""What `import max_whisper` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import max_whisper
import pytest
from max_whisper.progress import OnProgress, ignore_progress
from max_whisper.tools.bench.bench import bench
from max_whisper.weights.checkpoint import open_checkpoint
from max_whisper.weights.hub import fetch


@pytest.mark.parametrize("name", max_whisper.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    member = getattr(max_whisper, name)
    assert name in dir(max_whisper)
    if inspect.isclass(member) or inspect.isfunction(member):
        assert member.__doc__ and member.__name__ == name


def test_what_is_not_there_is_named() -> None:
    assert max_whisper.__version__ == version("max-whisper")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        max_whisper.nothing  # noqa: B018


def test_types_are_shipped() -> None:
    assert (Path(max_whisper.__file__).parent / "py.typed").exists()


def test_importing_it_imports_neither_max_nor_numpy() -> None:
    program = "import sys, max_whisper; print(*sorted({'max', 'numpy', 'yaml', 'rich', 'av'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


SLOW: list[Callable[..., Any]] = [
    max_whisper.build,
    max_whisper.verify,
    max_whisper.Model.transcribe,
    max_whisper.Model.transcribe_batch,
    max_whisper.transcribe_archive,
    bench,
    fetch,
    open_checkpoint,
]


@pytest.mark.parametrize("function", SLOW, ids=lambda function: function.__qualname__)
def test_progress_has_one_signature(function: Callable[..., Any]) -> None:
    assert get_type_hints(function)["progress"] == OnProgress
    assert inspect.signature(function).parameters["progress"].default is ignore_progress
