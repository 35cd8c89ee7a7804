"""The layers of an artifact as numbers, and the times of the benchmark that was kept beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from max_whisper.errors import ArtifactError, UserError
from max_whisper.tools.layers import layer_report
from support.artifacts import copy, replace


def bench_file(folder: Path, **changes: object) -> Path:
    """Writes what `max-whisper bench` writes of an artifact, as far as it is read, and some more."""
    plan = json.loads((folder / "manifest.json").read_text())["plan"]
    row = {"layers": [["encoder.conv1d[0]", "encoder.gelu[0]"]], "ms": 1.5, "kernels": []}
    bench: dict[str, Any] = {
        "model": plan["spec"]["name"],
        "dtype": plan["dtype"],
        "kernels": plan["kernels"],
        "batch": plan["batch"],
        "tokens": 100,
        "seconds": 30.0,
        "threads": 2,
        "peak_rates": {},
        "graphs": {"encoder": {"graph_ms": 2.0, "rows": [row]}},
        **changes,
    }
    path = folder.with_name(f"{folder.name}.bench.json")
    path.write_text(json.dumps(bench))
    return path


@pytest.fixture
def copied(artifact: Path, tmp_path: Path) -> Path:
    return copy(artifact, tmp_path / "model")


def test_all_parameters_and_operations_are_counted(copied: Path) -> None:
    report = layer_report(copied)
    layers = [layer for part in report["parts"].values() for layer in part]
    assert sum(layer["parameters"] * layer["copies"] for layer in layers) == report["parameters"] > 0
    assert {*report["parts"]} == {"encoder", "decoder"}
    assert any(layer["copies"] > 1 for layer in layers)
    assert all(layer["output"] for layer in layers)


def test_without_a_benchmark_there_are_no_times(copied: Path) -> None:
    report = layer_report(copied)
    assert report["times"] is None
    assert "max-whisper bench model --json model.bench.json" in report["no_times"]
    assert str(copied.parent) not in report["no_times"]


def test_times_are_read(copied: Path) -> None:
    bench_file(copied)
    report = layer_report(copied)
    assert report["no_times"] == ""
    assert report["times"]["graphs"] == {
        "encoder": {"ms": 2.0, "rows": [{"layers": ["encoder.conv1d[0]", "encoder.gelu[0]"], "copies": 1, "ms": 1.5}]}
    }


@pytest.mark.parametrize(
    "changes", [{"model": "whisper-large"}, {"dtype": "int8"}, {"kernels": "max"}, {"batch": 7}], ids=str
)
def test_times_of_another_build_are_not_shown(copied: Path, changes: dict[str, object]) -> None:
    bench_file(copied, **changes)
    report = layer_report(copied)
    assert report["times"] is None and "are of another build" in report["no_times"]


def test_times_that_are_older_than_the_artifact_are_not_shown(copied: Path) -> None:
    os.utime(bench_file(copied), (0, 0))
    assert "are of another build" in layer_report(copied)["no_times"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"model": 1}', b"[" * 100_000])
def test_a_damaged_benchmark_is_a_sentence(copied: Path, content: bytes) -> None:
    bench_file(copied).write_bytes(content)
    report = layer_report(copied)
    assert report["times"] is None and "cannot be read" in report["no_times"]


def test_only_whispers_have_such_layers(silero: Path, copied: Path) -> None:
    with pytest.raises(UserError, match="family vad"):
        layer_report(silero)
    replace(copied / "spec.json", b"{}")
    with pytest.raises(ArtifactError, match="expected a spec"):
        layer_report(copied)
