"""Tests the programs of `benchmarks`, but for `benchmarks.peers`, which has tests of its own."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT
from max_whisper.spec import load_spec
from max_whisper.tools.bench.lower_bounds import lower_bounds

from benchmarks.gpu import agreement, distance
from benchmarks.gpu import main as gpu

PEAK_RATES = {"float32": 200.0, "bfloat16": 400.0, "memory": 40.0}


PROGRAMS = [
    ".".join(path.with_suffix("").relative_to(ROOT).parts).removesuffix(".__main__")
    for path in sorted(ROOT.glob("benchmarks/**/*.py"))
    if path.parent.name != "workers" and "__main__" in path.read_text()
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_starts_and_says_how(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    monkeypatch.delitem(sys.modules, program, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(program, run_name="__main__")
    assert ended.value.code == 0
    assert f"    python -m {program} " in capsys.readouterr().out


def test_the_readme_names_every_program():
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert {*re.findall(r"python -m ([\w.]+)", readme)} == {*PROGRAMS}


def test_lower_bounds():
    spec = load_spec("tiny")
    one, eight = lower_bounds(spec, PEAK_RATES, 1, 100), lower_bounds(spec, PEAK_RATES, 8, 100)
    assert set(one) == {"float32", "bfloat16"}
    for dtype, bound in one.items():
        assert bound["total"] == pytest.approx(bound["encoder"] + bound["first"] + 99 * bound["token"])
        assert eight[dtype]["encoder"] == pytest.approx(8 * bound["encoder"])
        assert eight[dtype]["token"] < 8 * bound["token"]  # the weights are read once
    assert one["float32"]["encoder"] == pytest.approx(2 * one["bfloat16"]["encoder"])
    weights = 4 * 29.5e6  # the decoder's bytes
    assert weights / 40e6 < one["float32"]["token"] < 1.3 * weights / 40e6


def test_how_far_a_gpu_is_from_a_cpu():
    far = distance(np.array([3.0, 4.0], np.float32), np.array([3.0, 5.0], np.float32))
    assert far == {"largest": 1.0, "relative": pytest.approx(1 / 34**0.5)}
    assert agreement([[1, 2, 3], [4]], [[1, 2, 3], [5]]) == {"same": "1 of 2", "tokens": "3 of 4"}
    assert agreement([[1, 2]], [[1, 2, 3]]) == {"same": "0 of 1", "tokens": "2 of 3"}


def test_an_artifact_beside_its_own_figures(nano_artifact: Path, tmp_path: Path):
    """Runs the comparison for GPUs on a CPU, where nothing differs."""
    recording = ROOT / "examples" / "audio" / "commands.flac"
    out = tmp_path / "figures.npz"
    assert CliRunner().invoke(gpu, ["figures", str(nano_artifact), str(out), str(recording)]).exit_code == 0
    only = ["features", "logits", "decode: sampled", "decode: beams", "words", "4 threads"]
    options = [option for name in only for option in ("--only", name)]
    result = CliRunner().invoke(
        gpu, ["check", str(nano_artifact), str(out), *options, "--json", str(tmp_path / "findings.json")]
    )
    assert result.exit_code == 0, result.output
    (findings,) = json.loads((tmp_path / "findings.json").read_text()).values()
    assert [*findings] == ["load", *only]
    assert findings["features"]["largest"] == findings["logits"]["largest"] == 0
    assert {findings[name]["same"] for name in only[2:-1]} == {"1 of 1"}
    assert findings["4 threads"]["same"] == "4 of 4"


def test_a_check_that_fails_does_not_stop_the_others(nano_artifact: Path, tmp_path: Path):
    waveform = np.zeros(16000, np.float32)
    arrays = {"waveform.0": waveform, "fixed.0": np.zeros((1, 1), int), "logits.0": np.zeros((1, 1, 7), np.float32)}
    results = json.dumps({"texts": {}, "transcriptions": {}})
    np.savez(
        tmp_path / "figures.npz", features=np.zeros((1, 500, 128), np.float32), results=np.array(results), **arrays
    )
    options = ["--only", "logits", "--only", "twice the same"]
    result = CliRunner().invoke(gpu, ["check", str(nano_artifact), str(tmp_path / "figures.npz"), *options])
    assert result.exit_code == 1 and "failed ValueError" in result.output and "features differ" in result.output
