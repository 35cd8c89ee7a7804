"""The safetensors format: correct files, and every way in which a header can be wrong."""

from __future__ import annotations

import json
import resource
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from max_whisper.errors import WeightsError
from max_whisper.tensors.dtypes import BY_FORMAT
from max_whisper.tensors.safetensors_file import Entry, TensorInfo, open_tensors, read_header, write


def entry(name: str, array: np.ndarray, dtype: str) -> Entry:
    return Entry(name, dtype, array.shape, lambda: array)


def numbers(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 100, shape).astype(BY_FORMAT[dtype].numpy)


ARRAYS = {
    "scalar": ("F32", numbers((), "F32")),
    "large": ("F32", numbers((7, 64), "F32")),
    "odd": ("I8", numbers((3,), "I8")),
    "bias": ("F16", numbers((50,), "F16")),
    "bits": ("BF16", numbers((4, 8, 2), "BF16")),
    "empty": ("F32", numbers((0, 4), "F32")),
    "wide": ("I64", numbers((5,), "I64")),
    **{f"of {dtype}": (dtype, numbers((3, 5), dtype)) for dtype in BY_FORMAT},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    write(path, [entry(name, array, dtype) for name, (dtype, array) in ARRAYS.items()])
    return path


def test_what_is_written_is_read(path: Path) -> None:
    tensors = open_tensors(path)
    assert tensors.keys() == ARRAYS.keys()
    for name, (dtype, array) in ARRAYS.items():
        assert read_header(path)[name].dtype == dtype
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_writing_to_a_view_leaves_the_file_alone(path: Path) -> None:
    before = path.read_bytes()
    for array in open_tensors(path).values():
        array[...] = 1
    assert path.read_bytes() == before
    assert np.any(open_tensors(path)["large"] != 1)


def test_what_is_read_is_no_copy(path: Path) -> None:
    """The arrays are also writable, because MAX copies read-only ones."""
    for view in open_tensors(path).values():
        assert view.flags.writeable and not view.flags.owndata and type(view) is np.ndarray


def test_alignment_and_determinism(path: Path, tmp_path: Path) -> None:
    header = read_header(path)
    start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert start % 64 == 0
    for info in header.values():
        assert info.data_offsets[0] % BY_FORMAT[info.dtype].bytes == 0
    assert header["large"].data_offsets[0] % 64 == header["bits"].data_offsets[0] % 64 == 0
    again = tmp_path / "again.safetensors"
    write(again, [entry(name, array, dtype) for name, (dtype, array) in ARRAYS.items()])
    assert again.read_bytes() == path.read_bytes()
    write(again, [])
    assert read_header(again) == {}


def test_the_official_package_reads_it(path: Path) -> None:
    """Every dtype is read, those that the package cannot return to numpy as their bytes."""
    with safetensors.safe_open(path, framework="numpy") as file:
        assert list(file.offset_keys()) == list(read_header(path))
        for name, (dtype, array) in ARRAYS.items():
            if not dtype.startswith(("BF16", "F8_")):
                np.testing.assert_array_equal(file.get_tensor(name), array)
    found = dict(safetensors.deserialize(path.read_bytes()))
    assert found.keys() == ARRAYS.keys()
    for name, (dtype, array) in ARRAYS.items():
        assert (found[name]["dtype"], tuple(found[name]["shape"])) == (dtype, array.shape)
        assert bytes(found[name]["data"]) == array.tobytes()


def test_a_file_of_the_official_package(tmp_path: Path) -> None:
    """Every dtype of the table is read; metadata is skipped."""
    specs = {
        name: safetensors.TensorSpec(
            dtype=BY_FORMAT[dtype].name, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
        for name, (dtype, array) in ARRAYS.items()
    }
    safetensors.serialize_file(specs, tmp_path / "x.safetensors", {"format": "np"})
    header = read_header(tmp_path / "x.safetensors")
    assert header.keys() == ARRAYS.keys()
    for name, array in open_tensors(tmp_path / "x.safetensors").items():
        assert header[name].dtype == ARRAYS[name][0]
        np.testing.assert_array_equal(array, ARRAYS[name][1])


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
    with pytest.raises(ValueError, match="expected each tensor once, got 'x' twice"):
        write(tmp_path / "x", [entry("x", array, "F32")] * 2)


def raw(path: Path, header: Any, data: bytes = b"") -> Path:
    """Writes a file with any header, given as an object or as its text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def tensor(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


DUPLICATE = """{"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                "x": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}}"""
TWO_METADATA = """{"__metadata__": {"a": "b", "a": "c"},
                   "x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}"""


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"{", "is not a complete safetensors file: invalid JSON in header"),
        (b"\xff\xfe{}", "is not a complete safetensors file: invalid UTF-8 in header"),
        (b"[" * 100_000, "is not a complete safetensors file: invalid JSON in header"),
        (b'{"x": ' + b"1" * 5000 + b"}", "is not a complete safetensors file: .*number out of range"),
        (b"[]", "is not a complete safetensors file: .*expected struct"),
        (b"5", "is not a complete safetensors file: .*expected struct"),
        (DUPLICATE.encode(), "is not a complete safetensors file: the header names 'x' twice"),
        (DUPLICATE.replace('"x"', '"\\u0078"', 1).encode(), "the header names 'x' twice"),
        (b'{"x": {"dtype": "F32", "dtype": "F16"}}', "duplicate field `dtype`"),
        (TWO_METADATA.encode(), "the header names 'a' twice"),
        (b'{"__metadata__": {"a": 1}}', "expected a string"),
        (b'{"\\ud800": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}', "end of hex escape"),
        ({"x": 1}, "tensor 'x': expected an object, got an integer"),
        ({"x": ["F32", [4], [0, 16]]}, "tensor 'x': expected an object, got a list"),
        ({"x": {"dtype": "F32", "shape": [2]}}, "tensor 'x': .*missing required field 'data_offsets'"),
        ({"x": tensor(more=1)}, "tensor 'x': .*unknown field 'more'"),
        ({"x": tensor(dtype="F99")}, "tensor 'x': unknown dtype 'F99'; known are F32, F16, BF16, I8"),
        ({"x": tensor(dtype="F4", shape=[32], offsets=[0, 16])}, "tensor 'x': unknown dtype 'F4'"),
        ({"x": tensor(dtype=["F32"])}, "tensor 'x': dtype: expected text, got a list"),
        ({"x": tensor(shape=2)}, "tensor 'x': shape: expected a list, got an integer"),
        ({"x": tensor(shape=[-2])}, r"tensor 'x': shape\[0\]: expected an integer >= 0"),
        ({"x": tensor(shape=[2.0])}, r"tensor 'x': shape\[0\]: expected an integer, got a number"),
        ({"x": tensor(shape=[True, 2])}, r"tensor 'x': shape\[0\]: expected an integer, got true or false"),
        ({"x": tensor(shape=[1] * 32 + [4], offsets=[0, 16])}, "tensor 'x': shape: expected a list of length <= 32"),
        ({"x": tensor(shape=[2**40, 2**40])}, "tensor 'x': cannot reshape"),
        ({"x": tensor(shape=[0, 2**48, 2**48], offsets=[0, 0])}, "tensor 'x': array is too big"),
        ({"x": tensor(shape=[2**48, 2**48, 0], offsets=[0, 0])}, "tensor 'x': cannot reshape"),
        ({"x": tensor(shape=[0, 2**62], offsets=[0, 0])}, r"tensor 'x': shape\[1\]: expected an integer <= "),
        ({"x": tensor(shape=[0, 10**4200], offsets=[0, 0])}, r"tensor 'x': shape\[1\]: expected an integer <= "),
        ({"x": tensor(shape=[0], offsets=[10**4299] * 2)}, r"tensor 'x': data_offsets\[0\]: expected an integer <= "),
        (
            {"x": tensor(shape=[0], offsets=[0.0, 0.0])},
            r"tensor 'x': data_offsets\[0\]: expected an integer, got a number",
        ),
        ({"\x1b[2J" + "x" * 10**6: tensor(shape=2)}, r"tensor '\\x1b\[2Jx+\.\.\.': shape: expected"),
        ({"x": tensor(dtype="\x1b[2J" + "x" * 10**6)}, r"unknown dtype '\\x1b\[2Jx+\.\.\.'; known are"),
        ({"x": tensor(shape=[3])}, r"tensor 'x': cannot reshape array of size 2 into shape \(3,\)"),
        ({"x": tensor(offsets=[0, 7])}, "tensor 'x': .*must be a divisor"),
        ({"x": tensor(offsets=[8, 0])}, "tensor 'x': cannot reshape array of size 0"),
        ({"x": tensor(offsets=[-8, 0])}, r"tensor 'x': data_offsets\[0\]: expected an integer >= 0"),
        ({"x": tensor(offsets=[0, 8, 16])}, "tensor 'x': data_offsets: expected a list of length 2, got 3"),
        ({"x": tensor(offsets=[8, 16])}, "invalid offset for tensor `x`"),
        ({"x": tensor(), "y": tensor(offsets=[4, 12])}, "invalid offset for tensor `y`"),
        ({"x": tensor(), "y": tensor()}, "invalid offset for tensor `[xy]`"),
        (
            {"x": tensor(), "y": tensor(offsets=[8, 16]), "z": tensor(offsets=[16, 24])},
            "tensor 'z': its bytes end at 24, those of the file at 16: it is cut off",
        ),
        ({"x": tensor()}, "is not a complete safetensors file: .*not fully covered"),
        ({}, "is not a complete safetensors file: .*not fully covered"),
    ],
)
def test_wrong_headers(tmp_path: Path, header: Any, words: str) -> None:
    path = raw(tmp_path / "x.safetensors", header, bytes(16))
    with pytest.raises(WeightsError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_official_package_takes_the_last_of_two_tensors_of_a_name(tmp_path: Path) -> None:
    """If the package ever refuses them itself, the check here can be removed."""
    path = raw(tmp_path / "x.safetensors", DUPLICATE.encode(), bytes(16))
    with safetensors.safe_open(path, framework="numpy") as file:
        assert [file.get_slice(name).get_dtype() for name in file.keys()] == ["F64"]  # noqa: SIM118 - no dictionary


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "header too small"),
        (b"\x08\0\0", "header too small"),
        (b"\xff" * 64, "header too large"),
        ((90_000_000).to_bytes(8, "little") + b"{}", "invalid header length"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=f"x.safetensors is not a complete safetensors file: {words}; get it again"):
        read_header(tmp_path / "x.safetensors")


def test_a_header_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)  # sparse
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match="not a complete safetensors file: header too large"):
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
    assert read_header(path) == {"x": TensorInfo("F32", (2,), (0, 8))}
    assert open_tensors(path)["x"].tolist() == [1.5, -2.5]
