"""A new format of checkpoints is one file: a made-up one is added, and a model is built from it and run."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import max_whisper
import numpy as np
import pytest
import safetensors
from max_whisper.errors import WeightsError
from max_whisper.spec import load_spec
from max_whisper.tensors.dtypes import FLOAT32
from max_whisper.tensors.safetensors_file import open_tensors
from max_whisper.weights import source
from max_whisper.weights.checkpoint import open_checkpoint
from max_whisper.weights.names import OPENAI, TRANSFORMERS, RenameTable
from max_whisper.weights.source import known_formats, open_source
from support.models.checkpoint import EMBEDDING

FORMAT = '''
"""A folder with one .npy file for each tensor, under other names."""

from pathlib import Path

import numpy as np
from max_whisper.files import is_folder
from max_whisper.tensors.dtypes import DTYPES
from max_whisper.weights.names import RenameTable
from max_whisper.weights.source import SourceTensor, TensorSource, register

NAMES = RenameTable({"model.": "", "coder.layers.": "coder_block_", "weight": "w", "embed_tokens": "words"})


@register("npy")
class NpyFolder(TensorSource):
    renames = NAMES

    @classmethod
    def recognizes(cls, path):
        return is_folder(path) and any(path.glob("*.npy"))

    def names(self):
        return [file.stem for file in self.path.glob("*.npy")]

    def info(self, name):
        array = self.read(name)
        return SourceTensor(DTYPES[array.dtype.name], array.shape, self.path / f"{name}.npy")

    def read(self, name):
        return np.load(self.path / f"{name}.npy")
'''


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RenameTable]:
    """Registers the format for the time of a test, and returns its rename table."""
    monkeypatch.setattr(source, "_formats", dict(known_formats()))
    file = tmp_path / "npy.py"
    file.write_text(FORMAT)
    spec = importlib.util.spec_from_file_location("npy", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.NAMES


@pytest.fixture
def folder(checkpoint: Path, names: RenameTable, tmp_path: Path) -> Path:
    """Writes the tensors of `checkpoint` as .npy files, and copies its other files."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "npy", ignore=shutil.ignore_patterns("*.safetensors")))
    for name, array in open_tensors(checkpoint / "model.safetensors").items():
        assert names.renamed(name) != name
        np.save(folder / f"{names.renamed(name)}.npy", array)
    return folder


def test_a_model_from_a_new_format(
    artifact: Path, model: max_whisper.Model, spec: Path, folder: Path, tmp_path: Path
) -> None:
    built = max_whisper.build(spec, weights=folder, dtype="float32", out=tmp_path / "built")
    assert (built / "weights.safetensors").read_bytes() == (artifact / "weights.safetensors").read_bytes()
    mel = np.random.default_rng(0).standard_normal((1, 80, 200)).astype(np.float32)
    results = [
        opened.decode(opened.encode(mel), language="en", max_new_tokens=20)
        for opened in (max_whisper.load(built), model)
    ]
    assert len(results[0][0].tokens) == 20 and results[0][0].tokens == results[1][0].tokens


def test_the_official_package_reads_the_same_bytes_of_an_artifact(artifact: Path) -> None:
    path = artifact / "weights.safetensors"
    theirs = dict(safetensors.deserialize(path.read_bytes()))
    ours = open_tensors(path)
    assert theirs.keys() == ours.keys()
    for name, array in ours.items():
        assert bytes(theirs[name]["data"]) == array.tobytes() and tuple(theirs[name]["shape"]) == array.shape


def test_a_new_format_is_checked_against_the_spec(folder: Path, spec: Path) -> None:
    tensors = [(tensor.name, tensor.shape) for tensor in load_spec(spec).tensors()]
    open_checkpoint(folder).check(tensors)
    (folder / "decoder.words.w.npy").rename(folder / "decoder.wrods.w.npy")
    np.save(folder / "encoder.conv1.bias.npy", np.zeros(3, np.float32))
    np.save(folder / "encoder.conv2.bias.npy", np.zeros(64, np.int8))
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder).check(tensors)
    assert f"folder {folder} does not fit the spec: tensors 1 missing, 1 unexpected, 2 of another" in str(caught.value)
    assert f"missing: '{EMBEDDING}' [" in str(caught.value) and "(near: decoder.wrods.w)" in str(caught.value)
    assert "unexpected: 'decoder.wrods.w' (near: decoder.words.w)" in str(caught.value)
    assert "'model.encoder.conv1.bias' expected in shape [64], found [3]" in str(caught.value)
    assert "'model.encoder.conv2.bias' expected as float32 or float16 or bfloat16, found int8" in str(caught.value)


def test_what_is_read_of_a_new_format(folder: Path, checkpoint: Path) -> None:
    opened, same = open_checkpoint(folder), open_checkpoint(checkpoint)
    assert opened.describe() == f"folder {folder}" and opened.repo is opened.commit is None
    assert opened.source.info("decoder.words.w").dtype == FLOAT32
    for dtype in ("float32", "bfloat16"):
        np.testing.assert_array_equal(opened.read(EMBEDDING, dtype), same.read(EMBEDDING, dtype))
    assert opened.file("vocab.json") == opened.source.file("vocab.json") == folder / "vocab.json"
    np.save(folder / "decoder.words.w.npy", np.full((2, 2), np.nan, np.float32))
    with pytest.raises(WeightsError, match=r"tensor 'decoder.words.w' in .*npy: 4 of 4 elements are NaN"):
        opened.read(EMBEDDING, "float32")


def test_the_registry(names: RenameTable, checkpoint: Path, tmp_path: Path) -> None:
    assert {"safetensors", "npy"} <= known_formats().keys()
    assert type(open_source(checkpoint)).__name__ == "Safetensors"
    with pytest.raises(ValueError, match="two classes for the format 'npy': NpyFolder and object"):
        source.register("npy")(object)
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        open_source(tmp_path)


def test_rename_tables() -> None:
    assert TRANSFORMERS.candidates("model.a") == ["model.a", "model.model.a", "a"]
    assert OPENAI.candidates("model.decoder.layers.0.encoder_attn_layer_norm.weight") == [
        "decoder.blocks.0.cross_attn_ln.weight"
    ]
    assert OPENAI.renamed("model.encoder.embed_positions.weight") == "encoder.positional_embedding"
    tables = [OPENAI.renamed(tensor.name) for tensor in load_spec("tiny").tensors()]
    assert len(set(tables)) == len(tables)
