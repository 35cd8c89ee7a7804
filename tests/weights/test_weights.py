"""Checkpoints on disk: how they are found, checked and read."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from max_whisper.compile.weights import write_weights
from max_whisper.errors import UserError, WeightsError
from max_whisper.spec import Spec, load_spec, shipped_specs
from max_whisper.tensors.cast import CHUNK, lossless_dtype, to_bfloat16, to_float32
from max_whisper.tensors.dtypes import BFLOAT16
from max_whisper.tensors.safetensors_file import Entry, open_tensors, write
from max_whisper.weights.architecture import check_architecture
from max_whisper.weights.checkpoint import Checkpoint, open_checkpoint
from max_whisper.weights.source import SourceTensor, TensorSource
from max_whisper.weights.vocabulary import read_vocabulary
from support.artifacts import plan_of
from support.models.checkpoint import make_weights, write_checkpoint, write_safetensors
from support.models.small import dims_of
from support.models.vocabulary import make_tokens, write_json
from support.special_files import SPECIAL, as_nobody

SMALL = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "n_audio_ctx": 50, "n_text_ctx": 64, "d_ffn": 32}
EMBEDDING = "model.decoder.embed_tokens.weight"
BIAS = "model.encoder.conv1.bias"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    write_checkpoint(folder, **SMALL)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def expected(original: Path) -> list[tuple[str, tuple[int, ...]]]:
    return list(shapes(open_checkpoint(original)).items())


def shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {name: checkpoint.source.info(name).shape for name in checkpoint.source.names()}


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None], dtype: str = "F32") -> Checkpoint:
    """Writes the checkpoint of a folder again, with other tensors."""
    path = folder / "model.safetensors"
    tensors = {name: array.copy() for name, array in open_tensors(path).items()}
    change(tensors)
    write(path, [Entry(name, dtype, a.shape, lambda a=a: a) for name, a in tensors.items()])  # type: ignore[misc]
    return open_checkpoint(folder)


# --- where weights come from


def test_sources(folder: Path, expected: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for weights in (folder, str(folder), "checkpoint", "./checkpoint", "checkpoint/model.safetensors"):
        checkpoint = open_checkpoint(weights, repo="nobody/nothing")
        checkpoint.check(expected)
        assert checkpoint.repo is checkpoint.commit is None
        assert checkpoint.file("vocab.json") == Path(weights if Path(weights).is_dir() else "checkpoint") / "vocab.json"
        assert checkpoint.file("nothing.json") is None
    assert open_checkpoint(None, folder=folder).describe() == f"folder {folder}"
    monkeypatch.setenv("HOME", str(folder.parent))
    open_checkpoint("~/checkpoint")


def test_a_path_wins_over_a_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "openai").mkdir()
    folder.rename(folder.parent / "openai" / "whisper-tiny")
    monkeypatch.chdir(folder.parent)
    assert open_checkpoint("openai/whisper-tiny").describe() == "folder openai/whisper-tiny"


@pytest.mark.parametrize(
    "weights", ["./nothing", "/no/thing", "~/nothing", "a/b/c", "nothing.safetensors", Path("a/b")]
)
def test_a_path_that_does_not_exist(weights: str | Path) -> None:
    with pytest.raises(UserError, match=r"there is no file or folder .*Hub repository like"):
        open_checkpoint(weights)


def test_no_source() -> None:
    with pytest.raises(UserError, match="the spec names no source"):
        open_checkpoint(None)


def test_a_single_file(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copy(folder / "model.safetensors", alone)
    checkpoint = open_checkpoint(alone)
    assert checkpoint.read(BIAS, "float32").shape == (32,)
    with pytest.raises(WeightsError, match=r"alone.safetensors has no vocabulary beside it .* names no source"):
        checkpoint.file("vocab.json")
    assert open_checkpoint(alone, folder=folder).file("vocab.json") == folder / "vocab.json"


def test_folders_without_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no model.safetensors: it has .*config.json.* more"):
        open_checkpoint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(WeightsError, match=r"it has pytorch_model.bin. A pickle .* is never read; convert"):
        open_checkpoint(folder)
    with pytest.raises(WeightsError, match=r"pytorch_model.bin is a PyTorch pickle"):
        open_checkpoint(folder / "pytorch_model.bin")
    for content in (b"", b"<!DOCTYPE html>", bytes(100)):
        (folder / "page.bin").write_bytes(content)
        with pytest.raises(WeightsError, match=r"page.bin is in none of the formats that are read .* give another"):
            open_checkpoint(folder / "page.bin")
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid")
    with pytest.raises(WeightsError, match=r"model.safetensors .*: it is a Git LFS pointer; run `git lfs pull`"):
        open_checkpoint(folder)
    for pickle in (b"PK\x03\x04\0\0\x08\x08" + bytes(60), b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j"):
        (folder / "model.safetensors").write_bytes(pickle)
        with pytest.raises(WeightsError, match=r"model.safetensors is a PyTorch pickle. A pickle .* is never read"):
            open_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    (folder / "whisper.safetensors").touch()
    with pytest.raises(WeightsError, match=r"it has whisper.safetensors: give that file instead"):
        open_checkpoint(folder)
    (folder / "adapter_model.safetensors").touch()
    with pytest.raises(WeightsError, match=r"PEFT adapter: merge it"):
        open_checkpoint(folder)


# --- shards


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "sharded", shards=3, **SMALL)
    return tmp_path / "sharded"


def edit_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_shards(sharded: Path, original: Path, expected: list[Any]) -> None:
    checkpoint, whole = open_checkpoint(sharded), open_checkpoint(original)
    checkpoint.check(expected)
    for name, _ in expected:
        np.testing.assert_array_equal(checkpoint.read(name, "float32"), whole.read(name, "float32"))


@pytest.mark.parametrize(
    "file", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..\\x.safetensors", "x.bin", "", 3, None]
)
def test_an_index_that_leaves_the_folder(sharded: Path, file: Any) -> None:
    edit_index(sharded, lambda index: index["weight_map"].update({EMBEDDING: file}))
    with pytest.raises(WeightsError, match="expected the name of a safetensors file for tensor"):
        open_checkpoint(sharded)


def test_an_index_that_is_wrong(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").rename(sharded / "kept")

    def refused(change: Callable[[dict[str, Any]], None], words: str) -> None:
        shutil.copy(sharded / "kept", sharded / "model.safetensors.index.json")
        edit_index(sharded, change)
        with pytest.raises(WeightsError, match=words):
            open_checkpoint(sharded)

    files = [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    holder = json.loads((sharded / "kept").read_text())["weight_map"][EMBEDDING]
    another = next(file for file in files if file != holder)
    refused(lambda index: index.pop("weight_map"), "weight_map: expected an object")
    refused(lambda index: index.update(weight_map={}), "weight_map: expected an object")
    refused(lambda index: index.update(weight_map=[]), "weight_map: expected an object or null, got a list")
    many = {f"t{i}": f"{i}.safetensors" for i in range(1001)}
    refused(lambda index: index.update(weight_map=many), "at most 1000 files, got 1001")
    refused(lambda index: index["weight_map"].pop(EMBEDDING), f"holds tensor '{EMBEDDING}', but .* does not name it")
    refused(lambda index: index["weight_map"].update({EMBEDDING: another}), f"but .* says it is in {another}")
    refused(lambda index: index["weight_map"].update(extra=another), f"'extra' is in {another}, but it is not")
    refused(lambda index: index["weight_map"].update(extra="x.safetensors"), "names the file x.safetensors")
    (sharded / "model.safetensors.index.json").write_text("{")
    with pytest.raises(WeightsError, match="is no JSON"):
        open_checkpoint(sharded)


# --- names, shapes, dtypes


def test_differences_are_listed_together(folder: Path, expected: list[Any]) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors["model.encoder.conv1.bais"] = tensors.pop(BIAS)
        tensors["model.encoder.conv2.bias"] = np.zeros((31,), np.float32)

    with pytest.raises(WeightsError) as caught:
        rewrite(folder, change).check(expected)
    assert str(caught.value) == (
        f"folder {folder} does not fit the spec: tensors 1 missing, 1 unexpected, 1 of another shape or dtype; "
        "missing: 'model.encoder.conv1.bias' [32] (near: model.encoder.conv1.bais); "
        "unexpected: 'model.encoder.conv1.bais' (near: model.encoder.conv1.bias); "
        "different: 'model.encoder.conv2.bias' expected in shape [32], found [31]"
    )


def test_long_lists_are_cut(folder: Path, expected: list[Any], tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "deeper", **(SMALL | {"encoder_layers": 3}))
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(tmp_path / "deeper").check(expected)
    assert "tensors 30 unexpected; unexpected: 'model.encoder.layers.1." in str(caught.value)
    assert str(caught.value).endswith(" and 26 more")
    assert str(caught.value).count("'model.") == 4


def test_hostile_names_make_a_short_line(folder: Path, expected: list[Any]) -> None:
    names = [f"\x1b[2J{i}\n" + "x" * 100_000 for i in range(300)]
    checkpoint = rewrite(folder, lambda tensors: tensors.update({name: np.zeros(1, np.float32) for name in names}))
    with pytest.raises(WeightsError) as caught:
        checkpoint.check(expected)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_a_dtype_that_is_no_float(folder: Path) -> None:
    array = np.ones((4,), np.int8)
    write(folder / "model.safetensors", [Entry("x", "I8", (4,), lambda: array)])
    checkpoint = open_checkpoint(folder)
    with pytest.raises(WeightsError, match="'x' expected as float32 or float16 or bfloat16, found int8"):
        checkpoint.check([("x", (4,))])
    with pytest.raises(WeightsError, match=r"tensor 'x' in .* is int8: expected float32 or float16 or bfloat16"):
        checkpoint.read("x", "float32")


def test_names_without_the_prefix(folder: Path, original: Path, expected: list[Any]) -> None:
    def change(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    stripped = rewrite(folder, change)
    stripped.check(expected)
    whole = open_checkpoint(original)
    np.testing.assert_array_equal(stripped.read(EMBEDDING, "float32"), whole.read(EMBEDDING, "float32"))
    whole.check([(name.removeprefix("model."), shape) for name, shape in expected])
    with pytest.raises(WeightsError, match="1 missing"):
        stripped.check([*expected, ("model.extra", (1,))])
    both = rewrite(folder, lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING.removeprefix("model.")]}))
    with pytest.raises(WeightsError, match="1 unexpected"):
        both.check(expected)


def test_tied_output_projection(folder: Path, expected: list[Any]) -> None:
    checkpoint = rewrite(folder, lambda tensors: tensors.update({"proj_out.weight": tensors[EMBEDDING]}))
    checkpoint.check(expected)
    other = rewrite(folder, lambda tensors: tensors.update({"proj_out.weight": tensors[EMBEDDING] + 1}))
    with pytest.raises(WeightsError, match=r"is not tied: 'proj_out.weight' \(float32 .* differs from"):
        other.check(expected)
    other.check([*expected, ("proj_out.weight", dict(expected)[EMBEDDING])])  # a spec that has both
    smaller = rewrite(folder, lambda tensors: tensors.update({"proj_out.weight": tensors[EMBEDDING][:-1]}))
    with pytest.raises(WeightsError, match="is not tied"):
        smaller.check(expected)


# --- numbers


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_reading(tmp_path: Path, original: Path, dtype: str) -> None:
    write_checkpoint(tmp_path, dtype=dtype, **SMALL)
    checkpoint, exact = open_checkpoint(tmp_path), open_checkpoint(original)
    for name in (EMBEDDING, BIAS):
        number, true = checkpoint.read(name, "float32"), exact.read(name, "float32")
        assert number.dtype == np.float32 and number.flags.aligned
        error = {"float32": 0.0, "float16": 2**-11, "bfloat16": 2**-8}[dtype]
        np.testing.assert_allclose(number, true, rtol=error, atol=1e-7 if error else 0)
        bits = checkpoint.read(name, "bfloat16")
        assert bits.dtype == np.uint16 and bits.shape == number.shape
        np.testing.assert_array_equal(bits, to_bfloat16(number))
    with pytest.raises(WeightsError, match="has no tensor 'nothing'"):
        checkpoint.read("nothing", "float32")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_numbers_that_are_not_finite(folder: Path, value: float, dtype: Any) -> None:
    checkpoint = rewrite(folder, lambda tensors: tensors[BIAS].__setitem__(3, value))
    with pytest.raises(WeightsError, match=f"tensor '{BIAS}' in .*: 1 of 32 elements are NaN or infinite"):
        checkpoint.read(BIAS, dtype)


def test_numbers_too_large_for_bfloat16(folder: Path) -> None:
    checkpoint = rewrite(folder, lambda tensors: tensors[BIAS].__setitem__(3, 3.4e38))
    checkpoint.read(BIAS, "float32")
    with pytest.raises(WeightsError, match="too large for bfloat16: build with float32"):
        checkpoint.read(BIAS, "bfloat16")


def test_bfloat16_rounds_to_nearest_even() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    bits = bits[(bits & 0x7FFFFFFF) < 0x7F000000]  # finite, and so are its neighbors
    exact = bits.view(np.float32).astype(np.float64)
    got = to_float32(to_bfloat16(bits.view(np.float32)), BFLOAT16).astype(np.float64)
    below = to_float32((bits >> 16).astype(np.uint16), BFLOAT16).astype(np.float64)  # towards zero
    above = to_float32(((bits >> 16) + 1).astype(np.uint16), BFLOAT16).astype(np.float64)  # away from it
    np.testing.assert_array_equal(np.abs(got - exact), np.minimum(np.abs(below - exact), np.abs(above - exact)))
    cases = {0x3F808000: 0x3F80, 0x3F818000: 0x3F82, 0x3F808001: 0x3F81, 0x7F7FFFFF: 0x7F80, 0x80000000: 0x8000}
    for source, target in cases.items():
        (number,) = struct.unpack("<f", struct.pack("<I", source))
        assert to_bfloat16(np.array([number], np.float32))[0] == target
    for nan in (0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFF800001):
        kept = to_bfloat16(np.array([nan], np.uint32).view(np.float32))
        assert np.isnan(to_float32(kept, BFLOAT16))[0]


def test_elements_that_16_bits_hold_without_loss() -> None:
    def name(array: np.ndarray) -> str | None:
        dtype = lossless_dtype(array)
        return dtype and dtype.name

    bits = np.arange(2**16, dtype=np.uint16)
    halves = bits.view(np.float16)
    halves = halves[np.isfinite(halves)].astype(np.float32)  # the subnormal ones too
    assert name(halves.reshape(2, -1)) == "float16"
    brains = to_float32(bits, BFLOAT16)
    brains = brains[np.isfinite(brains)]
    assert name(brains) == "bfloat16"
    for number, dtype in ((1 + 2**-11, None), (65520.0, None), (2.0**-25, "bfloat16"), (2.0**16, "bfloat16")):
        assert name(np.array([1, number], np.float32)) == dtype
    late = np.ones(2 * CHUNK + 3, np.float32)
    late[-1] = np.float32(0.1)
    assert name(late) is None
    late[-1] = 2.0**100
    assert name(late) == "bfloat16"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_checkpoints_in_half_precision(tmp_path: Path, dtype: str) -> None:
    """The stored dtype does not matter: openai/whisper was published in float16, and its Hub files are float32."""
    write_checkpoint(tmp_path, dtype=dtype, **SMALL)
    checkpoint = open_checkpoint(tmp_path)
    expected = {} if dtype == "float32" else {EMBEDDING: dtype}
    assert checkpoint.lossless_dtypes([EMBEDDING]) == expected
    wide = tmp_path / "wide.safetensors"
    exact = checkpoint.read(EMBEDDING, "float32")
    write(wide, [Entry(EMBEDDING, "F32", exact.shape, lambda: exact)])
    assert open_checkpoint(wide).lossless_dtypes([EMBEDDING]) == expected


# --- the made checkpoints themselves


def test_made_checkpoints_are_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, seed=3, **SMALL)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_made_weights_have_the_names_and_shapes_of_the_dimensions(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family="v3", n_mels=128, **SMALL)
    dims = dims_of("v3", n_mels=128, **SMALL)
    assert dims["n_vocab"] == make_tokens("v3").n_vocab
    found = shapes(open_checkpoint(tmp_path))
    assert found["model.encoder.conv1.weight"] == (32, 128, 3)
    assert found["model.encoder.embed_positions.weight"] == (50, 32)
    assert found["model.decoder.embed_positions.weight"] == (64, 32)
    assert found[EMBEDDING] == (dims["n_vocab"], 32)
    assert "model.encoder.layers.0.self_attn.k_proj.bias" not in found
    weights = make_weights(dims, 297, seed=0)
    write_safetensors(tmp_path / "again.safetensors", weights, "float32")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


# --- what lies where a file is expected


@pytest.mark.parametrize("said", SPECIAL)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "generation_config.json", "vocab.json", "merges.txt", "tokenizer.json"]
)
def test_what_is_no_file_is_named(folder: Path, name: str, said: str) -> None:
    """The error does not call the file missing, and the file is never opened: a pipe would wait forever."""
    (folder / name).unlink()
    SPECIAL[said](folder / name)
    if name == "tokenizer.json":
        (folder / "vocab.json").unlink()
    with pytest.raises(WeightsError) as caught:
        checkpoint = open_checkpoint(folder)
        check_architecture(checkpoint, spec_of(SMALL))
        read_vocabulary(checkpoint.file, len(checkpoint.read(EMBEDDING, "float32")))
    assert str(caught.value).startswith(f"{folder / name} cannot be read: ") and said in str(caught.value)


@pytest.mark.parametrize("said", SPECIAL)
def test_weights_that_are_no_file(tmp_path: Path, sharded: Path, said: str) -> None:
    path = tmp_path / "odd"
    SPECIAL[said](path)
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(path)
    if said != "it is a folder":
        assert str(caught.value).startswith(f"{path} cannot be read: ") and said in str(caught.value)
    for name in ("model-00002-of-00003.safetensors", "model.safetensors.index.json"):
        (sharded / name).unlink()
        SPECIAL[said](sharded / name)
        with pytest.raises(WeightsError, match=re.escape(said)) as caught:
            open_checkpoint(sharded)
        assert str(caught.value).startswith(f"{sharded / name} cannot be read: ")


def test_weights_that_may_not_be_read(folder: Path) -> None:
    spec = spec_of(SMALL)
    (folder / "config.json").chmod(0)
    with as_nobody(), pytest.raises(WeightsError, match="cannot be read: Permission denied"):
        check_architecture(open_checkpoint(folder), spec)
    (folder / "config.json").chmod(0o644)
    folder.chmod(0)
    with as_nobody(), pytest.raises(WeightsError, match="cannot be read: Permission denied"):
        open_checkpoint(folder)


@pytest.mark.parametrize("path", ["/proc/self/maps", "/proc/kmsg", "/proc/self/mem", "/proc/kcore"])
def test_files_that_the_system_makes_up(folder: Path, path: str) -> None:
    for weights in (path, folder):
        if weights == folder:
            (folder / "config.json").unlink()
            (folder / "config.json").symlink_to(path)
        with pytest.raises(UserError):
            check_architecture(open_checkpoint(weights), spec_of(SMALL))


@pytest.mark.parametrize(
    "weights", ["", "x" * 5000, "a/" + "x" * 300, "\0", "a\0b", "~nobody-of-this-name/x", "\ud800", "./\ud800"]
)
def test_names_that_are_none(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        open_checkpoint(weights, offline=True)
    assert str(caught.value).isprintable()


def test_shards_without_an_index(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(WeightsError, match=r"it has model-00001-of-00003.safetensors, .*, but no model"):
        open_checkpoint(sharded)


# --- the configuration beside the weights


def spec_of(dims: dict[str, int], old: str = "", new: str = "") -> Spec:
    """Returns the spec of the checkpoints here, tiny with other dimensions, with `new` in place of `old`."""
    text = shipped_specs()["tiny"].read_text().replace(old, new) if old else shipped_specs()["tiny"].read_text()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.yaml")
        path.write_text(text)
        child = Path(folder, "child.yaml")
        others = {"n_heads": 2, "n_vocab": make_tokens("multilingual").n_vocab}
        child.write_text(json.dumps({"extends": "small.yaml", "name": "child", "dims": {**others, **dims}}))
        return load_spec(child)


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


CONTRADICTIONS = {
    "activation_function": (
        "gelu_new",
        "activation_function is 'gelu_new', in the spec 'gelu' (in a spec: gelu_tanh)",
    ),
    "model_type": ("bart", "model_type is 'bart', in the spec 'whisper'"),
    "is_encoder_decoder": (False, "is_encoder_decoder is false, in the spec true"),
    "scale_embedding": (True, "scale_embedding is true, in the spec false"),
    "d_model": (64, "d_model is 64, in the spec 32"),
    "encoder_layers": (2, "encoder_layers is 2, in the spec 1"),
    "decoder_layers": (0, "decoder_layers is 0, in the spec 1"),
    "encoder_attention_heads": (4, "encoder_attention_heads is 4, in the spec 2"),
    "decoder_attention_heads": (1, "decoder_attention_heads is 1, in the spec 2"),
    "num_mel_bins": (128, "num_mel_bins is 128, in the spec 80"),
    "max_source_positions": (25, "max_source_positions is 25, in the spec 50"),
    "max_target_positions": (32, "max_target_positions is 32, in the spec 64"),
    "vocab_size": (51865, "vocab_size is 51865, in the spec 1811"),
}


@pytest.mark.parametrize("field", CONTRADICTIONS)
@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_configuration_of_another_model(folder: Path, field: str, source: str) -> None:
    value, words = CONTRADICTIONS[field]
    weights = folder if source == "folder" else folder / "model.safetensors"
    spec = spec_of(SMALL)
    check_architecture(open_checkpoint(weights), spec)
    edit_json(folder / "config.json", **{field: value})
    with pytest.raises(WeightsError) as caught:
        check_architecture(open_checkpoint(weights), spec)
    assert f"{folder / 'config.json'} does not fit the spec child: {words}" in str(caught.value)
    edit_json(folder / "config.json", **{field: None})
    check_architecture(open_checkpoint(weights), spec)


def test_shorter_windows_take_the_first_positions(folder: Path, tmp_path: Path) -> None:
    spec = spec_of({**SMALL, "n_audio_ctx": 20, "n_text_ctx": 30})
    checkpoint = open_checkpoint(folder)
    check_architecture(checkpoint, spec)
    cut = {tensor.name for tensor in spec.tensors() if tensor.cut}
    assert cut == {"model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"}
    checkpoint.check([(tensor.name, tensor.shape) for tensor in spec.tensors()], cut=cut)
    write_weights(tmp_path / "cut.safetensors", plan_of(spec), spec, checkpoint)
    stored, whole = (open_tensors(path) for path in (tmp_path / "cut.safetensors", folder / "model.safetensors"))
    for name, rows in zip(sorted(cut), (30, 20), strict=True):
        assert whole[name].shape[0] > rows
        np.testing.assert_array_equal(stored[name], whole[name][:rows])


def test_longer_windows_have_no_positions(folder: Path) -> None:
    spec = spec_of({**SMALL, "n_audio_ctx": 60})
    expected = [(tensor.name, tensor.shape) for tensor in spec.tensors()]
    with pytest.raises(WeightsError, match=r"'model.encoder.embed_positions.weight' expected in shape \[60, 32\]"):
        open_checkpoint(folder).check(expected, cut={tensor.name for tensor in spec.tensors() if tensor.cut})
    with pytest.raises(WeightsError, match="max_source_positions is 50, in the spec 60"):
        check_architecture(open_checkpoint(folder), spec)


@pytest.mark.parametrize(
    ("name", "outer"), [("preprocessor_config.json", None), ("processor_config.json", "feature_extractor")]
)
@pytest.mark.parametrize("field", ["feature_size", "sampling_rate", "hop_length", "n_fft"])
def test_another_sound(folder: Path, name: str, outer: str | None, field: str) -> None:
    (folder / name).unlink(missing_ok=True)
    write_json(folder / name, {outer: {field: 8000}} if outer else {field: 8000})
    with pytest.raises(WeightsError, match=f"{name} does not fit the spec child: {field} is 8000, in the spec "):
        check_architecture(open_checkpoint(folder), spec_of(SMALL))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("gelu", ["gelu", "gelu_python"]),
        ("gelu_tanh", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"]),
        ("relu", ["relu"]),
        ("silu", ["silu", "swish"]),
    ],
)
def test_activations_of_the_spec_and_of_transformers(folder: Path, kind: str, names: list[str]) -> None:
    """Only the branches count: after the convolutions, transformers has GELU whatever the configuration says."""
    spec = spec_of(SMALL, "            - gelu\n", f"            - {kind}\n")
    assert kind in {node.layer.kind for node in spec.encoder.walk()}
    for name in [
        "gelu",
        "gelu_new",
        "gelu_pytorch_tanh",
        "gelu_python",
        "gelu_fast",
        "relu",
        "silu",
        "swish",
        "mish",
        "",
    ]:
        edit_json(folder / "config.json", activation_function=name)
        if name in names:
            check_architecture(open_checkpoint(folder), spec)
            continue
        with pytest.raises(WeightsError, match=f"activation_function is '{name}', in the spec '{kind}'"):
            check_architecture(open_checkpoint(folder), spec)


def test_heads_that_differ_from_layer_to_layer(folder: Path) -> None:
    spec = spec_of(SMALL, "cross_attention: {heads: $n_heads", "cross_attention: {heads: 4")
    with pytest.raises(WeightsError, match=r"decoder_attention_heads is 2, in the spec \[2, 4\]"):
        check_architecture(open_checkpoint(folder), spec)


def test_a_file_alone_has_no_configuration(folder: Path, tmp_path: Path) -> None:
    """The configuration of the spec's source is not compared, because it describes other weights."""
    alone = tmp_path / "alone" / "x.safetensors"
    alone.parent.mkdir()
    shutil.copy(folder / "model.safetensors", alone)
    edit_json(folder / "config.json", activation_function="relu")
    check_architecture(open_checkpoint(alone, folder=folder), spec_of(SMALL))


class NoTensors(TensorSource):
    """A format whose checkpoints have files and no tensors."""

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        return False

    def names(self) -> list[str]:
        return []

    def info(self, name: str) -> SourceTensor:
        raise NotImplementedError

    def read(self, name: str) -> np.ndarray:
        raise NotImplementedError


def test_the_official_configurations() -> None:
    hub = Path(__file__).resolve().parents[3] / "shared" / "hub"
    for name in ("tiny", "tiny.en"):
        folder = hub / f"whisper-{name}"
        if folder.is_dir():
            check_architecture(Checkpoint(NoTensors(folder)), load_spec(name))
    nano = load_spec("nano")
    check_architecture(open_checkpoint(nano.folder), nano)
