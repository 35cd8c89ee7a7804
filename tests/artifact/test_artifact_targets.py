"""Artifacts for other machines than this one."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from max import driver
from max_whisper import build, load
from max_whisper.artifact.load import check_artifact
from max_whisper.artifact.read import read_manifest
from max_whisper.artifact.target import GPU_HOST, PORTABLE_CPUS, machine_features, parse_target
from max_whisper.errors import ArtifactError
from support.artifacts import FILES, refusal
from support.command import error, run
from support.sounds import sweep

no_gpu = pytest.mark.skipif(driver.accelerator_count() > 0, reason="there is a GPU")


@pytest.mark.slow  # 15 minutes of a CPU: MAX takes much longer for a GPU than for a CPU
@no_gpu
def test_cross_compiled_for_a_gpu(cuda_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(path.name for path in cuda_artifact.iterdir()) == sorted(FILES)
    check_artifact(cuda_artifact, machine=False)
    assert str(read_manifest(cuda_artifact).plan.target) == "cuda:sm_90a"
    message = refusal(cuda_artifact, monkeypatch, ArtifactError)
    assert "needs a GPU of architecture sm_90a (cuda), this machine has no GPU" in message
    assert "needs a GPU" in error(run("transcribe", "talk.wav", "--model", cuda_artifact), 1)
    assert run("inspect", cuda_artifact).code == 0


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="for x86-64")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_portable_cpu(spec: Path, checkpoint: Path, tmp_path: Path, dtype: str) -> None:
    folder = build(spec, weights=checkpoint, dtype=dtype, out=tmp_path / "small", target="cpu:x86-64-v3")
    target = read_manifest(folder).plan.target
    assert target.arch == "x86-64-v3" and "avx512f" not in target.features
    assert load(folder).transcribe(sweep(2.0), max_new_tokens=3).segments


@pytest.mark.parametrize(
    ("text", "device", "arch"),
    [
        ("cpu", "cpu", platform.machine()),
        ("cuda:sm_80", "cuda", "sm_80"),
        ("cuda:sm_89", "cuda", "sm_89"),
        ("cuda:sm_90a", "cuda", "sm_90a"),
        ("hip:gfx942", "hip", "gfx942"),
    ],
)
def test_targets(text: str, device: str, arch: str) -> None:
    target = parse_target(text)
    portable = device != "cpu" and platform.machine() == "x86_64"
    features = PORTABLE_CPUS[GPU_HOST].split() if portable else sorted(machine_features())
    assert (target.device, target.arch, target.features) == (device, arch, features)
