"""The safetensors format: files that are right, and every way for a header to be wrong."""

from __future__ import annotations

import json
import resource
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from max_whisper.errors import WeightsError
from max_whisper.tensors.safetensors_file import NUMPY_DTYPES, Entry, TensorInfo, open_tensors, read_header, write


def entry(name: str, array: np.ndarray, dtype: str) -> Entry:
    return Entry(name, dtype, array.shape, lambda: array)


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 100, shape).astype(NUMPY_DTYPES[dtype])


ARRAYS = {
    "scalar": ("F32", numbers((), "F32")),
    "large": ("F32", numbers((7, 64), "F32")),
    "odd": ("I8", numbers((3,), "I8")),
    "bias": ("F16", numbers((50,), "F16")),
    "bits": ("BF16", numbers((4, 8, 2), "BF16")),
    "empty": ("F32", numbers((0, 4), "F32")),
    "wide": ("I64", numbers((5,), "I64")),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    write(path, [entry(name, array, dtype) for name, (dtype, array) in ARRAYS.items()], metadata={"made": "here"})
    return path


def test_what_is_written_is_read(path: Path) -> None:
    tensors = open_tensors(path)
    assert tensors.keys() == ARRAYS.keys()
    for name, (dtype, array) in ARRAYS.items():
        assert read_header(path)[name].dtype == dtype
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)
    assert list(open_tensors(path, ["odd"])) == ["odd"]
    with pytest.raises(WeightsError, match="no tensor 'even'"):
        open_tensors(path, ["even"])


def test_writing_to_a_view_leaves_the_file_alone(path: Path) -> None:
    before = path.read_bytes()
    for array in open_tensors(path).values():
        array[...] = 1
    assert path.read_bytes() == before
    assert np.any(open_tensors(path)["large"] != 1)


def test_alignment_and_determinism(path: Path, tmp_path: Path) -> None:
    header = read_header(path)
    for info in header.values():
        assert info.start % NUMPY_DTYPES[info.dtype].itemsize == 0
    assert header["large"].start % 64 == header["bits"].start % 64 == 0
    again = tmp_path / "again.safetensors"
    write(again, [entry(name, array, dtype) for name, (dtype, array) in ARRAYS.items()], metadata={"made": "here"})
    assert again.read_bytes() == path.read_bytes()
    write(again, [])
    assert read_header(again) == {}


def test_the_official_package_reads_it(path: Path) -> None:
    official = pytest.importorskip("safetensors")
    with official.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"made": "here"}
        assert set(file.keys()) == set(ARRAYS)
        for name, (dtype, array) in ARRAYS.items():
            if dtype != "BF16":  # which it cannot give to numpy
                np.testing.assert_array_equal(file.get_tensor(name), array)
    for name, tensor in official.deserialize(path.read_bytes()):
        assert bytes(tensor["data"]) == ARRAYS[name][1].tobytes()


def test_a_file_of_the_official_package(tmp_path: Path) -> None:
    official = pytest.importorskip("safetensors.numpy")
    arrays = {name: array for name, (dtype, array) in ARRAYS.items() if dtype != "BF16"}
    official.save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "np"})
    for name, array in open_tensors(tmp_path / "x.safetensors").items():
        np.testing.assert_array_equal(array, arrays[name])


def test_writing_holds_one_tensor_at_a_time(tmp_path: Path) -> None:
    size = 4 << 20
    entries = [Entry(f"t{i}", "U8", (size,), lambda: np.zeros(size, np.uint8)) for i in range(10)]
    tracemalloc.start()
    write(tmp_path / "x.safetensors", entries)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * size


def test_writing_refuses_what_was_not_announced(tmp_path: Path) -> None:
    array = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"'x': announced as F32 \(3, 2\), got float32 \(2, 3\)"):
        write(tmp_path / "x", [Entry("x", "F32", (3, 2), lambda: array)])
    with pytest.raises(ValueError, match="announced as F16"):
        write(tmp_path / "x", [Entry("x", "F16", (2, 3), lambda: array)])
    with pytest.raises(ValueError, match="given twice"):
        write(tmp_path / "x", [entry("x", array, "F32")] * 2)


def raw(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with any header: an object, or its text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"{", "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"x": ' + b"1" * 5000 + b"}", "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"x": {}, "x": {}}', "names 'x' twice"),
        (b'{"x": {"dtype": "F32", "dtype": "F16"}}', "names 'dtype' twice"),
        ({"x": 1}, "tensor 'x': the header must give dtype"),
        ({"x": {"dtype": "F32", "shape": [2]}}, "must give dtype, shape and data_offsets"),
        ({"x": tensor(more=1)}, "and nothing else"),
        ({"x": tensor(dtype="F99")}, "unknown dtype 'F99'"),
        ({"x": tensor(dtype=["F32"])}, "unknown dtype"),
        ({"x": tensor(shape=2)}, "shape must be a list of at most 32 sizes"),
        ({"x": tensor(shape=[-2])}, "shape must be a list of at most 32 sizes"),
        ({"x": tensor(shape=[2.0])}, "shape must be a list of at most 32 sizes"),
        ({"x": tensor(shape=[True, 2])}, "shape must be a list of at most 32 sizes"),
        ({"x": tensor(shape=[1] * 33, offsets=[0, 4])}, "shape must be a list of at most 32 sizes"),
        ({"x": tensor(shape=[2**40, 2**40])}, "absurdly large"),
        ({"x": tensor(shape=[0, 2**48, 2**48], offsets=[0, 0])}, "absurdly large"),
        ({"x": tensor(shape=[0, 2**62], offsets=[0, 0])}, "shape must be a list of at most 32 sizes"),
        ({"x": tensor(shape=[0, 10**4200], offsets=[0, 0])}, "shape must be a list of at most 32 sizes"),
        ({"x": tensor(shape=[0], offsets=[10**4299] * 2)}, "data_offsets must be two positions"),
        ({"x": tensor(shape=[0], offsets=[0.0, 0.0])}, "data_offsets must be two positions"),
        ({"\x1b[2J" + "x" * 10**6: tensor(shape=2)}, r"tensor '\\x1b\[2Jx+\.\.\.': shape must be"),
        ({"x": tensor(dtype="\x1b[2J" + "x" * 10**6)}, r"unknown dtype '\\x1b\[2Jx+\.\.\.'; known are"),
        ({"x": tensor(shape=[3])}, r"F32 \[3\] takes 12 bytes, but data_offsets give it 8"),
        ({"x": tensor(offsets=[8, 0])}, "data_offsets must be two positions"),
        ({"x": tensor(offsets=[-8, 0])}, "data_offsets must be two positions"),
        ({"x": tensor(offsets=[0, 8, 16])}, "data_offsets must be two positions"),
        ({"x": tensor(offsets=[8, 16])}, "'x' leaves a gap before it"),
        ({"x": tensor(), "y": tensor(offsets=[4, 12])}, "'y' overlaps"),
        ({"x": tensor(), "y": tensor()}, "overlaps"),
        ({"x": tensor(), "y": tensor(offsets=[8, 16]), "z": tensor(offsets=[16, 24])}, "cut off: tensor 'z'"),
        ({"x": tensor()}, "the file has"),
        ({}, "the file has"),
    ],
)
def test_wrong_headers(tmp_path: Path, header: Any, words: str) -> None:
    path = raw(tmp_path / "x.safetensors", header, bytes(16))
    with pytest.raises(WeightsError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a safetensors file"),
        (b"\x08\0\0", "not a safetensors file"),
        (b"\xff" * 64, "not a safetensors file"),
        ((90_000_000).to_bytes(8, "little") + b"{}", "cut off"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(60), "pickle"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        read_header(tmp_path / "x.safetensors")


def test_a_header_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)  # sparse
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match="not a safetensors file"):
        read_header(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        read_header(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match="it is a folder, expected a file"):
        read_header(tmp_path)


def test_every_truncation_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError):
            read_header(path)


def test_a_header_after_another_length_is_read_unaligned(tmp_path: Path) -> None:
    header = {"x": tensor(), "__metadata__": {"odd": "length!"}}
    text = json.dumps(header).encode() + b" "
    data = np.array([1.5, -2.5], "<f4").tobytes()
    assert (8 + len(text)) % 4, "the test wants an unaligned file"
    path = raw(tmp_path / "x.safetensors", text, data)
    assert read_header(path) == {"x": TensorInfo("F32", (2,), 8 + len(text), 16 + len(text))}
    assert open_tensors(path)["x"].tolist() == [1.5, -2.5]
