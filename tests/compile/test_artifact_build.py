"""Building: the content of the folder, refusals, and that no failure leaves a half-written folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import max_whisper
import numpy as np
import pytest
from max_whisper.artifact.load import hash_file
from max_whisper.artifact.read import read_manifest
from max_whisper.artifact.target import parse_target
from max_whisper.compile.build import build, default_folder
from max_whisper.compile.options import BuildOptions
from max_whisper.compile.planning import choose_dtype
from max_whisper.errors import CompileError, MaxWhisperError, SpecError, UserError, WeightsError
from max_whisper.spec import load_spec
from max_whisper.spec.families.whisper import WHISPER
from max_whisper.tensors import safetensors_file
from max_whisper.tensors.layout import token_matrices
from max_whisper.weights.checkpoint import Checkpoint
from support.artifacts import FILES, copy
from support.models.checkpoint import EMBEDDING, Weights, write_checkpoint
from support.models.small import SMALL, TOKENS, write_spec
from support.models.vocabulary import LANGUAGES


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- what is built


def test_what_is_in_the_folder(artifact: Path, spec: Path, checkpoint: Path) -> None:
    assert sorted(content(artifact)) == sorted(FILES)
    manifest = read_manifest(artifact)
    assert manifest.files.keys() == set(FILES) - {"manifest.json"}
    plan = manifest.plan
    assert (plan.spec.name, plan.spec.hash) == ("small", load_spec(spec).hash)
    assert manifest.dims == SMALL | {"n_frames": 200}
    assert (plan.dtype, plan.kernels, plan.batch) == ("float32", "ours", 1)
    assert [tensor.name for tensor in plan.tensors] == [tensor.name for tensor in load_spec(spec).tensors()]
    assert (manifest.source.repo, manifest.source.commit) == (None, None)
    assert manifest.tokens.eot == TOKENS.special["<|endoftext|>"]
    assert list(manifest.tokens.languages) == LANGUAGES
    assert manifest.graphs.keys() == {"encoder", "cross_kv", "decoder", "step", "alignment"}
    encoder = manifest.graphs["encoder"]
    assert [(port.name, port.dtype, port.shape) for port in encoder.inputs] == [("mel", "float32", [1, 80, 200])]
    assert [(port.name, port.dtype, port.shape) for port in encoder.outputs] == [("features", "float32", [1, 100, 64])]
    assert manifest.graphs["decoder"].inputs[0].shape == ["texts", "length"]


def test_nothing_of_the_machine_is_in_the_manifest(artifact: Path, home: Path) -> None:
    text = (artifact / "manifest.json").read_text()
    for private in (str(home), str(Path.home()), str(Path.cwd())):
        assert private not in text


def test_weights_are_those_of_the_checkpoint(artifact: Path, checkpoint: Path) -> None:
    """The matrices that the kernels for many rows read are packed (tensors/pack.py)."""
    stored = safetensors_file.open_tensors(artifact / "weights.safetensors")
    given = safetensors_file.open_tensors(checkpoint / "model.safetensors")
    assert stored.keys() == given.keys()
    packed = {name for name, array in stored.items() if array.shape != given[name].shape}
    assert packed == {
        name
        for name, array in given.items()
        if array.ndim > 1
        and (name.startswith("model.encoder.") or ".encoder_attn.k_proj." in name or ".encoder_attn.v_proj." in name)
        and "positions" not in name
    }
    for name, array in stored.items():
        if name in packed:
            matrix = (
                given[name] if given[name].ndim == 2 else given[name].transpose(0, 2, 1).reshape(len(given[name]), -1)
            )
            panels = np.zeros((array.shape[0] * 32, array.shape[1]), np.float32)
            panels[: matrix.shape[0]] = matrix
            np.testing.assert_array_equal(array, panels.reshape(-1, 32, array.shape[1]).transpose(0, 2, 1))
        else:
            np.testing.assert_array_equal(array, given[name])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_checkpoint_in_half_precision_is_read_as_it_is(spec: Path, tmp_path: Path, dtype: str) -> None:
    """The matrices that each token reads have 16 bits, and results are those of float32, to the last bit."""
    checkpoint = write_checkpoint(tmp_path / "halves", dtype=dtype)
    halves = max_whisper.build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "a")
    said = {tensor.name: tensor.dtype for tensor in read_manifest(halves).plan.tensors}
    short = (
        {"float16"} if dtype == "float16" else {"float16", "bfloat16"}
    )  # bfloat16 numbers that are not tiny fit either
    assert {name for name, stored in said.items() if stored in short} == set(token_matrices(load_spec(spec)))
    assert set(said.values()) == {"float32", *short}
    assert read_manifest(halves).plan.dtype == "float32"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "lossless_dtypes", lambda checkpoint, names: {})
        whole = max_whisper.build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "b")
    assert {tensor.dtype for tensor in read_manifest(whole).plan.tensors} == {"float32"}
    mel = np.random.default_rng(0).standard_normal((1, 80, 200)).astype(np.float32)
    found = []
    for folder in (halves, whole):
        model = max_whisper.load(folder)
        features = model.encode(mel)
        result = model.decode(features, language="en", max_new_tokens=20)[0]
        found.append((result.tokens, result.avg_logprob, model.logits(features, [[1, 2, 3]]).tobytes()))
    assert found[0] == found[1]


def test_same_inputs_give_the_same_bytes(artifact: Path, spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    again = build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "again")
    assert content(again) == content(artifact)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_phases_are_reported(spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    said: list[str] = []
    build(
        spec,
        weights=checkpoint,
        dtype="float32",
        out=tmp_path / "small",
        progress=lambda progress: said.append(progress.message),
    )
    assert said[0].startswith("checked 89 tensors of folder") and said[1] == "packed the weights"
    assert sorted(line.partition(" in ")[0] for line in said[2:]) == ["compiled the decoder", "compiled the encoder"]


@pytest.mark.parametrize(
    ("spec", "options", "folder"),
    [
        ("tiny.yaml", {}, "tiny"),
        ("base.en", {}, "base.en"),
        ("some/where/mine.yml", {}, "mine"),
        ("tiny", {"dtype": "bfloat16"}, "tiny-bfloat16"),
        ("tiny", {"dtype": "int8"}, "tiny"),
        ("tiny", {"dtype": "float32"}, "tiny-float32"),
        ("tiny", {"dtype": "float32", "target": "cuda:sm_90a"}, "tiny-cuda-sm_90a"),
        ("tiny", {"dtype": "float32", "kernels": "max"}, "tiny-max"),
        ("tiny", {"dtype": "bfloat16", "target": "cpu:x86-64-v3"}, "tiny-bfloat16-cpu-x86-64-v3"),
        ("tiny", {"dtype": "int8", "target": "cpu:x86-64-v4"}, "tiny-int8-cpu-x86-64-v4"),
        ("tiny", {"dtype": "float32", "target": "cpu:x86-64-v4"}, "tiny-cpu-x86-64-v4"),
        ("tiny", {"target": "cuda:sm_90a", "kernels": "max"}, "tiny-cuda-sm_90a"),
        ("tiny", {"kernels": "ours"}, "tiny"),
        ("tiny", {"kernels": "max"}, "tiny-max"),
        ("tiny", {"dtype": "bfloat16", "kernels": "max"}, "tiny-bfloat16-max"),
    ],
)
def test_default_folder(spec: str, options: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("max_whisper.artifact.target.machine_features", lambda: {"avx512_vnni"})
    assert default_folder(spec, **options) == Path("artifacts") / folder


def test_the_default_dtype_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an instruction for products of int8, these take longer than float32."""
    for features, expected in (({"avx2", "avx512_vnni"}, "int8"), ({"avx2"}, "float32")):
        monkeypatch.setattr("max_whisper.artifact.target.machine_features", lambda features=features: features)
        assert choose_dtype(parse_target("cpu"), "ours", WHISPER, BuildOptions()) == expected
        assert choose_dtype(parse_target("cpu"), "ours", WHISPER, BuildOptions(dtype="bfloat16")) == "bfloat16"
        assert choose_dtype(parse_target("cpu"), "max", WHISPER, BuildOptions()) == "float32"
        assert default_folder("tiny", dtype=expected) == Path("artifacts/tiny")
    assert choose_dtype(parse_target("cpu:x86-64-v4"), "ours", WHISPER, BuildOptions()) == "float32"
    assert choose_dtype(parse_target("cuda:sm_90a"), "max", WHISPER, BuildOptions()) == "float32"
    assert default_folder("tiny", dtype="int8") == Path("artifacts/tiny-int8")


# --- existing folders


@pytest.fixture
def old(artifact: Path, tmp_path: Path) -> Path:
    """Returns a small artifact, of other weights than `other`."""
    return copy(artifact, tmp_path / "place" / "small")


@pytest.fixture(scope="module")
def other(home: Path) -> Path:
    """Returns a checkpoint for the same spec."""
    return write_checkpoint(home / "other-checkpoint", seed=7)


def test_an_artifact_is_replaced_only_by_force(old: Path, spec: Path, other: Path) -> None:
    before = content(old)
    with pytest.raises(UserError, match="is there already: give --force"):
        build(spec, weights=other, dtype="float32", out=old)
    assert content(old) == before
    build(spec, weights=other, dtype="float32", out=old, force=True)
    assert content(old)["weights.safetensors"] != before["weights.safetensors"]
    max_whisper.load(old)
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_an_empty_folder_is_taken_by_force(spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--force"):
        build(spec, weights=checkpoint, dtype="float32", out=tmp_path)
    build(spec, weights=checkpoint, dtype="float32", out=tmp_path, force=True)
    max_whisper.load(tmp_path)


def test_what_is_no_artifact_is_never_replaced(spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"miaow")
    for force in (False, True):
        with pytest.raises(UserError, match="photos"):
            build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "photos", force=force)
    assert content(tmp_path / "photos") == {"cat.jpg": b"miaow"}
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UserError, match="is a file"):
        build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "file", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "photos"]


def test_a_link_to_an_artifact_stays_one(old: Path, spec: Path, other: Path, tmp_path: Path) -> None:
    before = content(old)
    (tmp_path / "link").symlink_to(old)
    build(spec, weights=other, dtype="float32", out=tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert content(old) != before
    max_whisper.load(tmp_path / "link")
    assert [path.name for path in old.parent.iterdir()] == [old.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "place"]


def test_leftovers_of_killed_builds_go(spec: Path, checkpoint: Path, tmp_path: Path) -> None:
    """A folder that is being written is locked; its name says nothing, as containers use the same process ids."""
    name = "small [1]*"
    abandoned = [tmp_path / f".{name}.new-{end}" for end in ("999999999", str(os.getpid()), "0123456789abcdef")]
    running = tmp_path / f".{name}.new-fedcba9876543210"
    for folder in (*abandoned, running):
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(b"x")
    (tmp_path / f".{name}.new-link").symlink_to(running)
    lock = os.open(running, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build(spec, weights=checkpoint, dtype="float32", out=tmp_path / name)
    finally:
        os.close(lock)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([running.name, f".{name}.new-link", name])


# --- what is refused, and fails: nothing is written


def nothing_in(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"dtype": "float16"}, UserError, "dtype: expected float32, bfloat16 or int8, or none, got 'float16'"),
        ({"target": "tpu"}, UserError, "unknown target 'tpu'"),
        ({"target": "cpu:z80"}, UserError, "unknown target 'cpu:z80'"),
        ({"target": "cuda"}, UserError, "expected cpu, cpu:x86-64-v3, cuda:sm_80"),
        ({"target": "cuda:90"}, UserError, "unknown target"),
        ({"kernels": "mine"}, UserError, "kernels: expected ours or max, or none, got 'mine'"),
        (
            {"dtype": "int8", "kernels": "max"},
            UserError,
            "needs kernels ours, got kernels max: build with kernels ours, or with dtype bfloat16",
        ),
        (
            {"dtype": "int8", "target": "cuda:sm_90a"},
            UserError,
            "int8 is for a CPU only: build for cuda:sm_90a with fl",
        ),
        (
            {"dtype": "bfloat16", "target": "cuda:sm_90a"},
            UserError,
            "bfloat16 is for a CPU only: build for cuda:sm_90a",
        ),
        (
            {"dtype": "int8", "target": "cuda:sm_90a", "kernels": "ours"},
            UserError,
            "a CPU only: build for cuda:sm_90a with kernels max",
        ),
        ({"target": "cuda:sm_90a", "kernels": "ours"}, UserError, "a CPU only: build for cuda:sm_90a with kernels max"),
        ({"batch": 0}, UserError, "batch: expected 1 to 256, got 0"),
        ({"batch": 257}, UserError, "batch: expected 1 to 256, got 257"),
        ({"spec": "tinny.yaml"}, SpecError, "did you mean 'tiny.yaml'"),
        ({"weights": "./nowhere"}, UserError, "there is no file or folder nowhere"),
    ],
)
def test_wrong_options(
    spec: Path, checkpoint: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    given = {"spec": spec, "weights": checkpoint, "out": tmp_path / "out", **options}
    with pytest.raises(error) as raised:
        build(given.pop("spec"), **given)
    assert said in str(raised.value)
    assert nothing_in(tmp_path)


def test_weights_of_another_model(checkpoint: Path, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, d_ffn=128)
    with pytest.raises(WeightsError, match="does not fit the spec"):
        build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "out" / "small")
    assert nothing_in(tmp_path / "out")


def test_weights_that_are_broken(spec: Path, tmp_path: Path) -> None:
    def break_one(weights: Weights) -> None:
        weights[EMBEDDING][5, 5] = np.nan

    checkpoint = write_checkpoint(tmp_path / "checkpoint", change=break_one)
    with pytest.raises(WeightsError, match="NaN"):
        build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "out" / "small")
    assert nothing_in(tmp_path / "out")


def test_disk_without_room(spec: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 20))
    with pytest.raises(MaxWhisperError, match=r"the disk has 5 MB free, the artifact of small takes \d+ MB; make room"):
        build(spec, weights=checkpoint, dtype="float32", out=tmp_path / "out" / "small")
    assert nothing_in(tmp_path / "out")


def test_disk_that_is_full_in_the_middle(
    spec: Path, other: Path, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, entries: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = content(old)
    monkeypatch.setattr(safetensors_file, "write", full)
    with pytest.raises(MaxWhisperError, match="No space left on device") as raised:
        build(spec, weights=other, dtype="float32", out=old, force=True)
    assert raised.value.exit_code == 1
    assert content(old) == before
    assert [path.name for path in old.parent.iterdir()] == [old.name]


@pytest.mark.parametrize("place", ["file/small", "file/deeper/small", "/proc/small", "x" * 300])
def test_place_that_cannot_be_written(spec: Path, checkpoint: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be written") as raised:
        build(spec, weights=checkpoint, dtype="float32", out=tmp_path / place)
    assert "choose another place with --out" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- a compiler that fails


def fake_compiler(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, which search the same folders for modules as this process, run `code` in place of the compiler.

    They import it as ctypes, which this process has imported already.
    """
    folder.mkdir()
    (folder / "ctypes.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "was ended by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"),
        ("import os; os.write(2, b'LLVM ERROR: oh no\\n'); os.abort()", "SIGABRT, saying: LLVM ERROR: oh no;"),
        ("import os; os._exit(3)", "exited with 3"),
        ("import os; os._exit(0)", "returned no result"),
        ("import os; os.write(1, b'{}'); os._exit(0)", "returned no result"),
    ],
)
def test_compiler_that_dies(
    spec: Path, other: Path, old: Path, tmp_path: Path, code: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(old)
    fake_compiler(tmp_path / "fake", code, monkeypatch)
    with pytest.raises(CompileError) as raised:
        build(spec, weights=other, dtype="float32", out=old, force=True)
    message = str(raised.value)
    assert raised.value.exit_code == 1
    assert said in message and "nothing was written" in message and "\n" not in message
    assert content(old) == before
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_the_manifest_binds_every_file(artifact: Path) -> None:
    for name, file in read_manifest(artifact).files.items():
        assert (file.size, file.blake3) == ((artifact / name).stat().st_size, hash_file(artifact / name))
