"""Reads whisper.cpp's model files: what a file holds, checked to its last byte before any of it is used.

Everything is little-endian (whisper.cpp, `whisper_model_load`): the magic number, eleven int32 of dimensions and type,
the mel filters, the text tokens, then the tensors one after another up to the end of the file. Each of these begins
with its number of dimensions, the length of its name and its type; then come its dimensions, the fastest first, its
name and its elements. Every length is compared with what is left of the file before it is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import WeightsError
from max_whisper.files import read_start
from max_whisper.mel_filters import N_FFT
from max_whisper.messages import quote
from max_whisper.weights.formats.ggml_blocks import TYPES, UNREAD, VERSION, BlockType
from max_whisper.weights.mapped import mapped_bytes

MAGIC = b"lmgg"
"""The bytes that ggml files begin with, the number 0x67676d6c."""
LONGEST_MODEL = 40
"""The most bytes of the name of a model that is no Whisper."""
LONGEST_NAME = 100
"""The most bytes of a tensor's name; the longest of Whisper's have 47."""
MOST_TENSORS = 10_000
"""The most tensors; large has 1259."""
LARGEST_DIMENSION = 2**20
"""The largest dimension of a tensor; the largest of Whisper's is its vocabulary of 51866."""
MOST_MELS = 512
"""The most mel filters, which are computed for comparison; large-v3 has 128."""
LONGEST_TOKEN = 256
"""The most bytes of a text token; the longest of Whisper's have 128."""
VERSION_FACTOR = 1000
"""The header's last number is the type of most tensors, plus this times the version of the layout of blocks."""
OTHER_MAGICS = {
    b"GGUF": "a GGUF file, which is not the format of whisper.cpp",
    b"fmgg": "an old file of llama.cpp (ggmf)",
    b"tjgg": "an old file of llama.cpp (ggjt)",
    b"algg": "an adapter of llama.cpp (ggla)",
}
"""The files of other programs that use ggml, by the bytes that they begin with."""
READ = ", ".join(kind.name for kind in TYPES.values())
"""The types that are read, for messages."""
EXPECTED = "expected a model of whisper.cpp such as ggml-base.en.bin"
"""What to do with a file of another program."""
REQUANTIZE = "quantize the model's f16 file anew with whisper.cpp's whisper-quantize, to q8_0 or q5_0"
"""What to do with a type that is not read."""
ADVICE = "get the file again"
"""What to do with a damaged file."""


Content = TypeVar("Content")


@dataclass(frozen=True)
class Dimensions:
    """The dimensions in the header, under openai/whisper's names and in the header's order."""

    n_vocab: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int
    n_mels: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file.

    Attributes:
        type: Its type.
        shape: Its shape, the slowest dimension first.
        data: Its elements or blocks, a view of the file.
    """

    type: BlockType
    shape: tuple[int, ...]
    data: NDArray[Any]


@dataclass(frozen=True)
class GgmlFile:
    """The content of a file.

    Attributes:
        dims: The dimensions.
        mel_filters: The mel filters, float32 [n_mels, 201].
        tokens: The bytes of each text token, by its id.
        tensors: The tensors, by openai/whisper's names.
    """

    dims: Dimensions
    mel_filters: NDArray[np.float32]
    tokens: list[bytes]
    tensors: dict[str, StoredTensor]


def read_ggml(path: Path) -> GgmlFile:
    """Returns the content of a file, whose tensors are views of its mapped bytes.

    Raises WeightsError for a file that cannot be read, is not complete, or holds another kind of model.
    """
    return read_with(_read, path)


def read_with(read: Callable[[Cursor], Content], path: Path) -> Content:
    """Returns what a function reads from the bytes of a file.

    Raises WeightsError for a file that cannot be read, and where the function raises Fault.
    """
    data = mapped_bytes(path)
    try:
        return read(Cursor(data))
    except Fault as fault:
        raise WeightsError(f"{path}: {fault}") from None


def model_name(path: Path) -> str:
    """Returns the name of the model that a ggml file of another model than Whisper begins with; "" if it has none."""
    try:
        start = read_start(path, len(MAGIC) + 4 + LONGEST_MODEL)
    except OSError:
        return ""
    if len(start) < len(MAGIC) + 4 or not start.startswith(MAGIC):
        return ""
    return _model_name(start[len(MAGIC) :])


def _model_name(header: bytes) -> str:
    """Returns the name of the model that a header behind the magic number begins with; "" if it has none."""
    (length,) = struct.unpack_from("<i", header)
    name = header[4 : 4 + length] if 0 < length <= LONGEST_MODEL else b""
    return name.decode() if name.isascii() and name.decode().isprintable() else ""


class Fault(Exception):
    """What is wrong with a file, as the rest of a sentence that begins with its path."""


class Cursor:
    """A position in the bytes of a file, which every read moves on."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data, self._position = data, 0

    @property
    def left(self) -> int:
        """The bytes that are left."""
        return len(self._data) - self._position

    def take(self, size: int, what: str) -> NDArray[np.uint8]:
        """Returns a view of the next bytes; raises Fault if there are not so many."""
        if size > self.left:
            raise Fault(
                f"it is cut off: {what} needs {size} bytes at byte {self._position}, but {self.left} are left; {ADVICE}"
            )
        start, self._position = self._position, self._position + size
        return self._data[start : self._position]

    def integers(self, count: int, what: str) -> tuple[int, ...]:
        """Returns the next int32 numbers."""
        return struct.unpack(f"<{count}i", self.take(4 * count, what).tobytes())


def _read(cursor: Cursor) -> GgmlFile:
    """Returns the content of the file at whose beginning a cursor is; raises Fault."""
    _check_magic(cursor.take(len(MAGIC), "the magic number").tobytes())
    dims, version = _read_header(cursor)
    filters = _read_filters(cursor, dims)
    tokens = _read_tokens(cursor, dims)
    tensors: dict[str, StoredTensor] = {}
    while cursor.left:
        name, tensor = read_tensor(cursor)
        if tensor.type.dequantize is not None and version != VERSION:
            raise Fault(f"its blocks are of version {version}, expected {VERSION}: {REQUANTIZE}")
        if name in tensors:
            raise Fault(f"it holds tensor {quote(name)} twice; {ADVICE}")
        if len(tensors) == MOST_TENSORS:
            raise Fault(f"it holds more than {MOST_TENSORS} tensors, which no Whisper model has; {ADVICE}")
        tensors[name] = tensor
    if not tensors:
        raise Fault("it holds no tensors, like the files with which whisper.cpp is tested: give a whole model")
    return GgmlFile(dims, filters, tokens, tensors)


def _check_magic(magic: bytes) -> None:
    if magic in OTHER_MAGICS:
        raise Fault(f"it is {OTHER_MAGICS[magic]}: {EXPECTED}")
    if magic != MAGIC:
        raise Fault(f"it is no ggml file: {EXPECTED}")


def _read_header(cursor: Cursor) -> tuple[Dimensions, int]:
    """Returns the dimensions, and the version of the layout of blocks."""
    header = cursor.take(4 * 11, "the header").tobytes()
    *values, file_type = struct.unpack("<11i", header)
    dims = Dimensions(*values)
    if all(0 < value <= LARGEST_DIMENSION for value in values) and (
        dims.n_audio_state == dims.n_text_state
        and dims.n_mels <= MOST_MELS
        and dims.n_audio_state % dims.n_audio_head == dims.n_text_state % dims.n_text_head == 0
    ):
        return dims, file_type // VERSION_FACTOR
    # Files of other models have the same magic number; one for voice activity goes on with the model's name.
    name = _model_name(header)
    model = f" of the model {quote(name)}" if name else ""
    raise Fault(f"it is a ggml file{model}, but not of a Whisper model: {EXPECTED}")


def _read_filters(cursor: Cursor, dims: Dimensions) -> NDArray[np.float32]:
    """Returns the mel filters, float32 [n_mels, 201]."""
    shape = cursor.integers(2, "the size of the mel filters")
    if shape != (dims.n_mels, N_FFT // 2 + 1):
        raise Fault(f"its mel filters are {list(shape)}, expected {[dims.n_mels, N_FFT // 2 + 1]}: {EXPECTED}")
    return cursor.take(4 * math.prod(shape), "the mel filters").view("<f4").reshape(shape)


def _read_tokens(cursor: Cursor, dims: Dimensions) -> list[bytes]:
    """Returns the text tokens by id."""
    (count,) = cursor.integers(1, "the number of text tokens")
    if not 0 < count <= dims.n_vocab:
        raise Fault(f"it has {count} text tokens, expected 1 to {dims.n_vocab} (its n_vocab); {ADVICE}")
    tokens = []
    for i in range(count):
        what = f"text token {i}"
        (length,) = cursor.integers(1, f"the length of {what}")
        if not 0 <= length <= LONGEST_TOKEN:
            raise Fault(f"{what} has {length} bytes, expected 0 to {LONGEST_TOKEN}; {ADVICE}")
        tokens.append(cursor.take(length, what).tobytes())
    return tokens


def read_tensor(cursor: Cursor) -> tuple[str, StoredTensor]:
    """Returns the next tensor and its name; raises Fault."""
    rank, length, number = cursor.integers(3, "the head of a tensor")
    if not (0 <= rank <= 4 and 1 <= length <= LONGEST_NAME):
        raise Fault(
            f"behind its last tensor are {cursor.left + 12} bytes that are no tensor (rank {rank}, name of {length} "
            f"bytes); {ADVICE}"
        )
    reversed_shape = cursor.integers(rank, "the dimensions of a tensor")
    name = cursor.take(length, "the name of a tensor").tobytes().decode(errors="replace")
    tensor = f"tensor {quote(name)}"
    if number not in TYPES:
        raise Fault(f"{tensor} is of type {UNREAD.get(number, number)}, expected one of {READ}: {REQUANTIZE}")
    if not all(0 < size <= LARGEST_DIMENSION for size in reversed_shape):
        raise Fault(f"{tensor} has the dimensions {list(reversed_shape)}, expected 1 to {LARGEST_DIMENSION}; {ADVICE}")
    kind = TYPES[number]
    row = reversed_shape[0] if rank else 1
    if row % kind.elements:
        raise Fault(
            f"{tensor} is of type {kind.name}, whose blocks have {kind.elements} elements, but its rows have "
            f"{row}; {ADVICE}"
        )
    size = math.prod(reversed_shape) // kind.elements * kind.layout.itemsize
    return name, StoredTensor(kind, reversed_shape[::-1], cursor.take(size, tensor).view(kind.layout))
