"""The tensors of an ONNX file: its initializers. Its graph is not looked at, and nothing is run."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import WeightsError
from max_whisper.files import is_folder
from max_whisper.messages import quote
from max_whisper.tensors.dtypes import FLOAT16, FLOAT32, Dtype
from max_whisper.weights.mapped import mapped_bytes
from max_whisper.weights.names import SILERO
from max_whisper.weights.source import SourceTensor, TensorSource, register

GRAPH, INITIALIZER = 7, 5
"""The fields of ModelProto and of GraphProto that lead to the tensors (onnx.proto)."""
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9
"""The fields of TensorProto that are read."""
DTYPES: dict[int, Dtype] = {1: FLOAT32, 10: FLOAT16}
"""The data types of TensorProto that are read."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The ways in which protobuf stores a field."""
LONGEST_VARINT = 10
MOST_DIMENSIONS, LARGEST_DIMENSION = 8, 2**24
LONGEST_NAME = 1000

Field = tuple[int, "int | NDArray[np.uint8]"]
"""The number of a field, and its integer or its bytes."""


@register("onnx")
class Onnx(TensorSource):
    """The initializers of an ONNX file, under the names of Silero VAD."""

    renames = SILERO

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        data = mapped_bytes(path)
        try:
            self._tensors = dict(_initializers(data))
        except _Damaged as e:
            raise WeightsError(f"{path}: {e}; get the file again") from None

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        return not is_folder(path) and path.suffix == ".onnx"

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def info(self, name: str) -> SourceTensor:
        array = self._tensors[name]
        return SourceTensor(FLOAT32 if array.dtype == FLOAT32.numpy else FLOAT16, array.shape, self.path)

    def read(self, name: str) -> NDArray[Any]:
        return self._tensors[name]


class _Damaged(Exception):
    """What is wrong with a file, as the rest of a sentence that begins with its path."""


def _initializers(data: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yields the name and the elements of each tensor of numbers in float32 or float16, views of the file.

    Others, which describe the graph, are left out. Raises _Damaged.
    """
    seen: set[str] = set()
    for graph in _messages(data, GRAPH):
        for message in _messages(graph, INITIALIZER):
            tensor = _tensor(message)
            if tensor is None:
                continue
            name, array = tensor
            if name in seen:
                raise _Damaged(f"it holds tensor {quote(name)} twice")
            seen.add(name)
            yield name, array
    if not seen:
        raise _Damaged("it holds no weights, or has them in the branches of its graph, where they are not looked for")


def _messages(data: NDArray[np.uint8], number: int) -> Iterator[NDArray[np.uint8]]:
    """Yields the bytes of each field of this number."""
    for field, value in _fields(data):
        if field == number and not isinstance(value, int):
            yield value


def _tensor(data: NDArray[np.uint8]) -> tuple[str, NDArray[Any]] | None:
    """Returns the name and the elements of a tensor; None for one of another type than DTYPES."""
    dims: list[int] = []
    kind, name, raw = 0, "", np.zeros(0, np.uint8)
    for field, value in _fields(data):
        if field == DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
            if len(dims) > MOST_DIMENSIONS or not all(0 < dim <= LARGEST_DIMENSION for dim in dims):
                raise _Damaged(f"a tensor has the dimensions {dims[:MOST_DIMENSIONS]}")
        elif field == DATA_TYPE and isinstance(value, int):
            kind = value
        elif field == NAME and not isinstance(value, int):
            name = value[:LONGEST_NAME].tobytes().decode(errors="replace")
        elif field == RAW_DATA and not isinstance(value, int):
            raw = value
    if kind not in DTYPES:
        return None
    dtype = DTYPES[kind].numpy
    if len(raw) != math.prod(dims) * dtype.itemsize:
        raise _Damaged(f"tensor {quote(name)} has {len(raw)} bytes of data, which do not fit its dimensions {dims}")
    return name, raw.view(dtype).reshape(dims)


def _packed(data: NDArray[np.uint8]) -> list[int]:
    """Returns the integers that one field holds, one after the other, and no more than a tensor has dimensions."""
    values: list[int] = []
    position = 0
    while position < len(data) and len(values) <= MOST_DIMENSIONS:
        value, position = _varint(data, position)
        values.append(value)
    return values


def _fields(data: NDArray[np.uint8]) -> Iterator[Field]:
    """Yields the fields of a protobuf message; raises _Damaged for one that is cut off."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == BYTES:
            size, position = _varint(data, position)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise _Damaged(f"it is no protobuf message: a field at byte {position} is of the unknown form {wire}")
        if size > len(data) - position:
            raise _Damaged(f"it is cut off: a field needs {size} bytes, but {len(data) - position} are left")
        yield number, data[position : position + size]
        position += size


def _varint(data: NDArray[np.uint8], position: int) -> tuple[int, int]:
    """Returns an integer of protobuf, and the position behind it."""
    value = 0
    for i in range(LONGEST_VARINT):
        if position + i >= len(data):
            break
        byte = int(data[position + i])
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, position + i + 1
    raise _Damaged("it is cut off, or no protobuf message")
