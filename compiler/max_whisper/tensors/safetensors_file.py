"""Reads and writes safetensors files, with the official package as their validator.

The package cannot return bfloat16 or memory-mapped tensors to numpy, and writes only tensors that are all in memory, so
both are done here. It also accepts files that are refused here: with a name twice (it takes the last), with unknown
fields, or with dtypes and shapes that numpy cannot hold.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from max_whisper.errors import WeightsError
from max_whisper.files import open_regular
from max_whisper.messages import printable, quote, validation_message
from max_whisper.tensors.dtypes import BY_FORMAT, byte_count

LONGEST_HEADER = 100_000_000
"""The most bytes of a header, as in the package."""
ALIGNMENT = 64
"""The bytes of a cache line, and of the widest vector loads."""
Array = np.ndarray[Any, Any]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**48)]


class TensorInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor in the header of a file.

    Attributes:
        dtype: The name of its dtype in safetensors.
        shape: Its shape.
        data_offsets: The beginning and the end of its bytes, counted from the end of the header.
    """

    dtype: str
    shape: Annotated[tuple[Size, ...], msgspec.Meta(max_length=32)]
    data_offsets: tuple[Size, Size]


class Entry(NamedTuple):
    """A tensor to write.

    Attributes:
        name: Its name.
        dtype: The name of its dtype in safetensors.
        shape: Its shape.
        load: A function that returns an array of this shape and dtype; it is called when the tensor is written.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], Array]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Returns the tensors of a file in the order of their bytes; raises WeightsError for a broken file."""
    return {name: info for name, (info, _) in _open(path).items()}


def open_tensors(path: Path) -> dict[str, Array]:
    """Returns the tensors of a file as views of its mapped bytes, bfloat16 as uint16; raises as `read_header` does."""
    return {name: view for name, (_, view) in _open(path).items()}


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Writes tensors to a file, one after another; the same entries make the same bytes.

    The format allows no gaps, so the order aligns the tensors: by the largest power of two in their sizes, up to 64.
    """
    ordered = sorted(entries, key=lambda entry: -math.gcd(byte_count(entry.dtype, entry.shape), ALIGNMENT))
    header, end = {}, 0
    for name, dtype, shape, _ in ordered:
        if name in header:
            raise ValueError(f"expected each tensor once, got {name!r} twice")
        start, end = end, end + byte_count(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, dtype, shape, load in ordered:
            array = np.asarray(load(), order="C")
            if (array.dtype, array.shape) != (BY_FORMAT[dtype].numpy, shape):
                raise ValueError(f"tensor {name!r}: announced as {dtype} {shape}, got {array.dtype} {array.shape}")
            array.tofile(file)


def _open(path: Path) -> dict[str, tuple[TensorInfo, Array]]:
    """Returns the header and a view of each tensor of a file, in the order of their bytes."""
    refusal, tensors = "", {}
    try:
        with open_regular(path) as file:  # the package would wait for a pipe
            try:  # its refusal is raised last: the checks below say more where they find the fault, too
                safe_open(path, framework="numpy")
            except SafetensorError as e:
                refusal = printable(e, 200).removeprefix("Error while deserializing header: ")
            # Mode "c": writes stay in this process. MAX would copy arrays that are read-only.
            data = np.memmap(file, np.uint8, mode="c").view(np.ndarray)
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        within = start <= min(len(data), 8 + LONGEST_HEADER)  # if not, the package has refused the file
        text = data[8:start].tobytes() if within else b"{}"
        header = dict(json.loads(text.decode(), object_pairs_hook=_unique))
        header.pop("__metadata__", None)
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror or e}") from e
    except (ValueError, TypeError, RecursionError) as e:
        raise WeightsError(f"{path} is not a complete safetensors file: {refusal or e}; get it again") from e
    for name, value in header.items():
        try:
            tensors[name] = (info := msgspec.convert(value, TensorInfo)), _view(info, data[start:])
        except ValueError as e:
            raise WeightsError(
                f"{path}: tensor {quote(name)}: {printable(validation_message(e), 300)}; get it again"
            ) from e
    if refusal:
        raise WeightsError(f"{path} is not a complete safetensors file: {refusal}; get it again")
    return dict(sorted(tensors.items(), key=lambda item: item[1][0].data_offsets))


def _view(info: TensorInfo, data: Array) -> Array:
    """Returns a tensor as a view of a file's data; raises ValueError where it does not fit."""
    if info.data_offsets[1] > len(data):
        raise ValueError(f"its bytes end at {info.data_offsets[1]}, those of the file at {len(data)}: it is cut off")
    if info.dtype not in BY_FORMAT:
        raise ValueError(f"unknown dtype {quote(info.dtype)}; known are {', '.join(BY_FORMAT)}")
    return data[slice(*info.data_offsets)].view(BY_FORMAT[info.dtype].numpy).reshape(info.shape)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; raises ValueError for a key that is there twice."""
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError(f"the header names {quote(Counter(name for name, _ in pairs).most_common(1)[0][0])} twice")
    return fields
