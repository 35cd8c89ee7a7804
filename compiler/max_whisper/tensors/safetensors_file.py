"""The safetensors file format: eight bytes of length, a JSON header, then the tensors' bytes without gaps.

Our own because the official package cannot give numpy a bfloat16 tensor, nor a memory-mapped one, and because a file
from the Hub is not to be trusted: every size in the header is checked before memory is taken.
Format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from max_whisper.errors import WeightsError
from max_whisper.files import open_regular, read_start
from max_whisper.messages import printable, quote

MAX_HEADER_BYTES = 100_000_000  # the official reader's limit as well
MAX_SIZE = 2**48  # bytes of a file, and numbers along a dimension: 281 TB
ALIGNMENT = 64  # a cache line, and what vector loads like best

# How numpy holds each dtype. It has no bfloat16 and no 8-bit floats: those are their bits.
NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "U8": "u1",
        "I8": "i1",
        "F8_E4M3": "u1",
        "F8_E5M2": "u1",
        "U16": "<u2",
        "I16": "<i2",
        "F16": "<f2",
        "BF16": "<u2",
        "U32": "<u4",
        "I32": "<i4",
        "F32": "<f4",
        "U64": "<u8",
        "I64": "<i8",
        "F64": "<f8",
    }.items()
}


@dataclass(frozen=True)
class TensorInfo:
    """What a header says about one tensor. `start` and `end` are byte positions in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Entry:
    """One tensor to be written; `load` is called when its turn comes, and its array is dropped afterwards.

    The array must have the given shape and the numpy dtype that NUMPY_DTYPES gives for `dtype`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray[Any, Any]]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a file by name, in the order of their bytes; only the header is read.

    Raises WeightsError if the file cannot be read or its header is not exactly right.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            # Files of /proc have no size, and some wait for news when they are read.
            start = 8 + int.from_bytes(file.read(8), "little") if size >= 8 else size + 1
            if start > min(size, 8 + MAX_HEADER_BYTES):
                raise WeightsError(f"{path} is not a safetensors file, or is cut off{_what_else(path)}")
            text = file.read(start - 8)
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror}") from e
    entries = _parse(path, text)
    entries.pop("__metadata__", None)
    tensors = {name: _tensor_info(f"{path}: tensor {quote(name)}", entry, start) for name, entry in entries.items()}
    return _check_layout(path, tensors, start, size)


def open_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors called `names` (all, if None) as views of the memory-mapped file.

    The mapping is private: what is written to a view stays in this process. It is not read-only because MAX would
    copy read-only arrays, and so hold the weights twice. bfloat16 comes as the uint16 of its bits.

    Raises WeightsError like `read_header`, and for a name that is not there.
    """
    header = read_header(path)
    try:
        with open_regular(path) as file:
            mapped = np.memmap(file, np.uint8, mode="c")
    except (OSError, ValueError) as e:  # ValueError: it is empty now
        raise WeightsError(f"{path} cannot be read: {getattr(e, 'strerror', e)}") from e
    tensors = {}
    for name in header if names is None else names:
        if name not in header:
            raise WeightsError(f"{path}: there is no tensor {quote(name)}")
        info = header[name]
        tensors[name] = mapped[info.start : info.end].view(np.ndarray).view(NUMPY_DTYPES[info.dtype])
        tensors[name] = tensors[name].reshape(info.shape)
    return tensors


def write(path: Path, entries: Iterable[Entry], metadata: Mapping[str, str] | None = None) -> None:
    """Write a file that any safetensors reader accepts; the same entries give the same bytes.

    Tensors are written one at a time, so memory holds one of them. The format allows no gaps, so alignment comes
    from the order: tensors whose size is a multiple of 64 bytes go first and all start at a multiple of 64; the others
    follow by the largest power of two in their size, so that each starts at a multiple of at least that.
    """
    ordered = sorted(entries, key=lambda entry: -_alignment(byte_count(entry.dtype, entry.shape)))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for entry in ordered:
        if entry.name in header:
            raise ValueError(f"tensor {entry.name!r} is given twice")
        start, end = end, end + byte_count(entry.dtype, entry.shape)
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in ordered:
            array = np.asarray(entry.load(), order="C")
            if array.shape != entry.shape or array.dtype != NUMPY_DTYPES[entry.dtype]:
                raise ValueError(
                    f"tensor {entry.name!r}: announced as {entry.dtype} {entry.shape}, got {array.dtype} {array.shape}"
                )
            array.tofile(file)


def byte_count(dtype: str, shape: Sequence[int]) -> int:
    """What a tensor takes in a file."""
    return math.prod(shape) * NUMPY_DTYPES[dtype].itemsize


def _alignment(size: int) -> int:
    """The largest power of two that divides `size`, at most ALIGNMENT; an empty tensor disturbs nobody."""
    return math.gcd(size, ALIGNMENT)


def _what_else(path: Path) -> str:
    """What a file may be that is no safetensors file, for the error message."""
    first = read_start(path, 16)
    if first.startswith(b"version https://"):
        return ": it is a Git LFS pointer; run `git lfs pull` in its folder"
    if first.startswith((b"PK\x03\x04", b"\x80\x02")):
        return ": it looks like a PyTorch pickle, which is never read"
    return ""


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    """The header as a dictionary; duplicate keys, which JSON parsers drop silently, are refused."""

    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise WeightsError(f"{path}: the header names {quote(key)} twice")
            result[key] = value
        return result

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as e:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise WeightsError(
            f"{path}: the safetensors header is no JSON ({printable(e, 200)}); download or convert the file again"
        ) from e
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the safetensors header is no JSON object")
    return header


def _tensor_info(where: str, entry: Any, data_start: int) -> TensorInfo:
    """One tensor of a header, every field checked; its place in the file is checked by `_check_layout`."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{where}: the header must give dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in NUMPY_DTYPES:
        raise WeightsError(f"{where}: unknown dtype {_shown(dtype)}; known are {', '.join(NUMPY_DTYPES)}")
    if not _are_sizes(shape) or len(shape) > 32:
        raise WeightsError(f"{where}: shape must be a list of at most 32 sizes from 0 to {MAX_SIZE}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise WeightsError(f"{where}: data_offsets must be two positions from 0 to {MAX_SIZE}, the larger one last")
    info = TensorInfo(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])
    # numpy's own limit; it counts a dimension of 0 as 1, so an empty tensor of absurd size is caught here.
    if math.prod(max(dim, 1) for dim in shape) * NUMPY_DTYPES[dtype].itemsize >= 2**63:
        raise WeightsError(f"{where}: shape {list(shape)} is absurdly large")
    if info.end - info.start != byte_count(info.dtype, info.shape):
        raise WeightsError(
            f"{where}: {dtype} {list(shape)} takes {byte_count(info.dtype, info.shape)} bytes, "
            f"but data_offsets give it {info.end - info.start}"
        )
    return info


def _shown(value: Any) -> str:
    return quote(value) if isinstance(value, str) else f"of JSON type {type(value).__name__}"


def _are_sizes(value: Any) -> bool:
    """Whether a JSON value is a list of sizes or positions (JSON's true is no integer)."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_SIZE for item in value)


def _check_layout(path: Path, tensors: dict[str, TensorInfo], start: int, size: int) -> dict[str, TensorInfo]:
    """The tensors in the order of their bytes, which must cover the file from `start` to `size` without gaps."""
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    position = start
    for name, info in ordered.items():
        if info.end > size:
            raise WeightsError(
                f"{path} is cut off: tensor {quote(name)} ends at byte {info.end}, the file at {size}; get it again"
            )
        if info.start != position:
            fault = "overlaps the tensor before it" if info.start < position else "leaves a gap before it"
            raise WeightsError(f"{path}: tensor {quote(name)} {fault} (bytes {info.start} to {info.end})")
        position = info.end
    if position != size:
        raise WeightsError(f"{path}: the header covers {position} bytes, but the file has {size}")
    return ordered
