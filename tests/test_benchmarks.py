"""Tests what the benchmarks compute: files for peers, tables, pictures. They need none of the peers."""

from __future__ import annotations

import io
import json
import re
import runpy
import struct
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT
from max_whisper.mel_filters import mel_filters
from max_whisper.runtime.audio.mel import log_mel
from max_whisper.spec import load_spec
from max_whisper.tools.bench.lower_bounds import lower_bounds
from rich.console import Console

from benchmarks.common import made_recording
from benchmarks.gpu import agreement, distance
from benchmarks.gpu import main as gpu
from benchmarks.peers.figures import equal_tokens, medians, ranking, setting_table, start_table
from benchmarks.peers.ggml import DIMENSIONS, q8_0, write_ggml, write_tensor
from benchmarks.peers.greedy import MEL_FILTERS, LogMel
from benchmarks.peers.plot import parts, svg
from benchmarks.peers.sides import Side, spec_of, taking_part

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


def phases(total: float, **others: float | None) -> dict[str, float | None]:
    return {"log_mel": 3.0, "encoder": 100.0, "first": 10.0, "token": 2.0, "total": total, **others}


def setting() -> dict[str, Any]:
    return {
        "batch": 1,
        "seconds": 30.0,
        "tokens": 100,
        "disturbed": 0.01,
        "lower_bounds": lower_bounds(load_spec("tiny"), PEAK_RATES, 1, 100),
        "equal": {"slow": 100, "max-whisper float32": 7},
        "memory": {"slow": 300.0, "max-whisper float32": 200.0},
        "batched": {"slow": False, "max-whisper float32": True},
        "rounds": {
            "slow": [phases(640, log_mel=None), phases(600, log_mel=None)],
            "max-whisper float32": [phases(320), phases(300), phases(310)][:2],
        },
    }


def text_of(table: Any) -> str:
    console = Console(width=150, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_table_has_the_fastest_first_and_a_dash_for_what_is_not_reported():
    text = text_of(setting_table(setting()))
    lines = [line for line in text.splitlines() if "slow" in line or "max-whisper" in line]
    assert ranking(setting()) == ["max-whisper float32", "slow"]
    assert "7/100" in lines[0]
    assert "1.00" in lines[0]
    assert "slow (one by one)" in lines[1]
    assert "–" in lines[1]
    assert "2.00" in lines[1]
    assert "lower bound, bfloat16" in text


def test_a_table_of_new_processes():
    run = {"load": 50.0, "first_text": 900.0, "memory": 400.0}
    start = {**setting(), "runs": {"one": [run, run | {"load": 70.0}, run | {"load": 60.0}]}}
    assert "60" in text_of(start_table(start))


def test_tokens_are_compared_with_what_most_peers_gave():
    tokens = {"a": [[1, 2, 3], [4, 5, 6]], "b": [[1, 2, 3], [4, 5, 6]], "c": [[1, 9, 3], [4, 5, 7]], "d": [[1], []]}
    assert equal_tokens(tokens) == {"a": 6, "b": 6, "c": 3, "d": 1}


def test_the_parts_of_a_bar_add_up():
    assert sum(parts(medians([phases(320), phases(300)])).values()) == 310
    assert sum(parts(medians([phases(320, encoder=None)])).values()) == 320


def test_the_picture_is_well_formed():
    report = {"model": "tiny", "threads": 2, "machine": {"cpu": "A & B <CPU>"}, "settings": [setting(), setting()]}
    root = ET.fromstring(svg(report))
    assert len([element for element in root.iter() if element.tag.endswith("line")]) == 2 * 2


def test_the_artifact_for_the_batch_takes_part_or_else_that_for_one_window():
    one, eight, peer, single = (Side(label, [], {}, n) for label, n in (("a", 1), ("a", 8), ("p", None), ("b", 1)))
    sides = [one, eight, peer, single]
    assert taking_part(sides, 1) == [one, peer, single]
    assert taking_part(sides, 8) == [eight, peer, single]
    assert taking_part([eight], 1) == []


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(click.BadParameter, match=r"config\.json"):
        spec_of(tmp_path)


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


def test_the_log_mel_lent_to_peers_is_ours(tmp_path: Path):
    np.save(tmp_path / MEL_FILTERS, mel_filters(80))
    waveforms = np.stack([made_recording(3, seed) for seed in (0, 1)])
    mel = LogMel(tmp_path / "some peer")(waveforms)
    for actual, waveform in zip(mel, waveforms, strict=True):
        expected = log_mel(np.pad(waveform, (0, 480_000 - len(waveform))), 80)
        assert actual.shape == expected.shape
        assert np.abs(actual - expected).max() < 1e-4


def test_q8_0_blocks():
    array = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    array[1, :32] = 0
    data = np.frombuffer(q8_0(array), np.dtype([("scale", "<f2"), ("multiples", "i1", 32)]))
    assert data.nbytes == 34 * 6
    restored = (data["scale"].astype(np.float32)[:, None] * data["multiples"]).reshape(3, 64)
    assert np.abs(restored - array).max() <= np.abs(array).max() / 127


@pytest.mark.parametrize(
    ("name", "shape", "kind", "dims", "type_", "size"),
    [
        ("encoder.conv1.weight", (4, 2, 3), "q8_0", (3, 2, 4), 1, 48),
        ("encoder.conv1.bias", (4,), "float16", (1, 4), 0, 16),
        ("encoder.positional_embedding", (5, 32), "float16", (32, 5), 0, 640),
        ("decoder.ln.weight", (32,), "q8_0", (32,), 0, 128),
        ("decoder.token_embedding.weight", (7, 32), "float16", (32, 7), 1, 448),
        ("decoder.token_embedding.weight", (7, 32), "q8_0", (32, 7), 8, 238),
    ],
)
def test_tensors_of_a_ggml_file(name, shape, kind, dims, type_, size):
    out = io.BytesIO()
    write_tensor(out, name, np.ones(shape, np.float32), kind)
    data = out.getvalue()
    head = struct.calcsize(f"<{3 + len(dims)}i")
    assert struct.unpack(f"<{3 + len(dims)}i", data[:head]) == (len(dims), len(name), type_, *dims)
    assert data[head : head + len(name)].decode() == name
    assert len(data) == head + len(name) + size


def test_the_head_of_a_ggml_file(tmp_path: Path):
    dims = {name: i for i, name in enumerate(DIMENSIONS)}
    write_ggml(tmp_path / "model.bin", dims, mel_filters(80), [b"a", b"bc"], {}, "q8_0")
    data = (tmp_path / "model.bin").read_bytes()
    assert struct.unpack("<I11i", data[:48]) == (0x67676D6C, *range(10), 2007)
    assert struct.unpack("<2i", data[48:56]) == (80, 201)
    assert data[56 + 80 * 201 * 4 :] == struct.pack("<iI1sI2s", 2, 1, b"a", 2, b"bc")


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
