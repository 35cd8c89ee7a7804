"""Reads model.bin of CTranslate2: a header, variables with their bytes, and aliases, one after another.

The layout is that of `ModelSpec._serialize` (CTranslate2, python/ctranslate2/specs/model_spec.py). All numbers are
little-endian; a text is a 16-bit length, its bytes and a NUL, which the length counts.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import WeightsError
from max_whisper.files import open_regular, read_start
from max_whisper.messages import quote
from max_whisper.tensors.dtypes import BFLOAT16, DTYPES, FLOAT16, FLOAT32, INT8, Dtype
from max_whisper.weights.file_kinds import other_kind

BINARY_VERSION = 6
"""The version of the layout since CTranslate2 2.14 (2022), which is older than its Whisper."""
TYPES = (FLOAT32, INT8, DTYPES["int16"], DTYPES["int32"], FLOAT16, BFLOAT16)
"""The dtypes by their number in a file (CTranslate2, include/ctranslate2/types.h)."""
MAX_VARIABLES = 100_000
MAX_RANK = 8
LONGEST_SPEC = 100
"""The most characters of the name of a spec."""


@dataclass(frozen=True)
class Variable:
    """A variable of a model.

    Attributes:
        dtype: Its dtype.
        array: Its elements, a view of the mapped file.
    """

    dtype: Dtype
    array: NDArray[Any]


@dataclass(frozen=True)
class ModelFile:
    """The content of a file.

    Attributes:
        spec: The class of CTranslate2 that describes the model, such as "WhisperSpec".
        revision: The version of that class.
        variables: The variables by name, aliases included.
    """

    spec: str
    revision: int
    variables: dict[str, Variable]


def spec_name(path: Path) -> str | None:
    """Returns the name of the spec with which a file of any version begins; None for any other file. Never raises."""
    try:
        start = read_start(path, 6 + LONGEST_SPEC)
    except OSError:
        return None
    if len(start) < 6:
        return None
    version, length = struct.unpack_from("<IH", start)
    name = start[6 : 6 + length]
    if not 1 <= version < 1000 or not name.endswith(b"Spec\0") or not name[:-1].isalnum():
        return None
    return name[:-1].decode("ascii", "replace")


def read_model(path: Path) -> ModelFile:
    """Returns the content of a file, of which only the header is read; raises WeightsError for a broken file."""
    try:
        with open_regular(path) as file:
            # Mode "c": writes stay in this process. Read-only arrays would be copied later.
            data = np.memmap(file, np.uint8, mode="c").view(np.ndarray)
        cursor = _Cursor(data)
        (version,) = cursor.numbers("I", "the version")
        if version != BINARY_VERSION:
            raise WeightsError(
                f"{path} has the binary version {version} of CTranslate2, expected {BINARY_VERSION}{other_kind(path)}: "
                "convert the model again, with CTranslate2 3.5 to 4.8"
            )
        return _read(cursor)
    except OSError as e:
        raise WeightsError(f"{path} cannot be read: {e.strerror or e}") from e
    except ValueError as e:
        raise WeightsError(f"{path} is not a complete CTranslate2 model: {e}{other_kind(path)}; get it again") from e


class _Cursor:
    """A place in the bytes of a file, from which the next values are read; ValueError where the file ends before."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data, self.at = data, 0

    def bytes(self, size: int, what: str) -> NDArray[np.uint8]:
        if size > len(self.data) - self.at:
            raise ValueError(f"{what} ends at byte {self.at + size}, the file at {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, form: str, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.bytes(struct.calcsize(f"<{form}"), what).tobytes())

    def text(self, what: str) -> str:
        (length,) = self.numbers("H", what)
        raw = self.bytes(length, what).tobytes()
        if not raw.endswith(b"\0"):
            raise ValueError(f"{what} is no text that ends with a NUL")
        return raw[:-1].decode()


def _read(cursor: _Cursor) -> ModelFile:
    """Returns what follows the version in a file; raises ValueError for a broken one."""
    spec = cursor.text("the name of the spec")
    revision, count = cursor.numbers("II", "the number of variables")
    _check_count(count, "variables")
    variables: dict[str, Variable] = {}
    for number in range(count):
        name = cursor.text(f"the name of variable {number}")
        if name in variables:
            raise ValueError(f"it has the variable {quote(name)} twice")
        variables[name] = _read_variable(cursor, f"variable {quote(name)}")
    (count,) = cursor.numbers("I", "the number of aliases")
    _check_count(count, "aliases")
    for _ in range(count):
        alias, name = cursor.text("an alias"), cursor.text("the variable of an alias")
        if name not in variables or alias in variables:
            fault = "is a variable, too" if alias in variables else f"stands for {quote(name)}, which is missing"
            raise ValueError(f"the alias {quote(alias)} {fault}")
        variables[alias] = variables[name]
        if f"{name}_scale" in variables:
            variables[f"{alias}_scale"] = variables[f"{name}_scale"]
    if cursor.at < len(cursor.data):
        raise ValueError(f"it ends at byte {cursor.at}, but the file has {len(cursor.data)}")
    return ModelFile(spec, revision, variables)


def _check_count(count: int, what: str) -> None:
    if count > MAX_VARIABLES:
        raise ValueError(f"it has {count} {what}, expected at most {MAX_VARIABLES}")


def _read_variable(cursor: _Cursor, what: str) -> Variable:
    """Returns the variable that follows its name."""
    (rank,) = cursor.numbers("B", what)
    if rank > MAX_RANK:
        raise ValueError(f"{what} has {rank} dimensions, expected at most {MAX_RANK}")
    shape = cursor.numbers(f"{rank}I", what)
    number, size = cursor.numbers("BI", what)
    if number >= len(TYPES):
        raise ValueError(f"{what} has the data type {number}, expected one of 0 to {len(TYPES) - 1}")
    dtype = TYPES[number]
    if size != prod(shape) * dtype.bytes:
        raise ValueError(f"{what} is {dtype.name} {list(shape)}, which is not {size} bytes")
    return Variable(dtype, cursor.bytes(size, what).view(dtype.numpy).reshape(shape))
