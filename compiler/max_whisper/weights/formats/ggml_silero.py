"""The format of whisper.cpp for Silero VAD: a ggml file that begins with the name of the model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from max_whisper.files import is_folder
from max_whisper.messages import quote
from max_whisper.tensors.dtypes import FLOAT16, FLOAT32
from max_whisper.weights.formats.ggml_file import (
    ADVICE,
    LONGEST_MODEL,
    MAGIC,
    Cursor,
    Fault,
    StoredTensor,
    model_name,
    read_tensor,
    read_with,
)
from max_whisper.weights.names import SILERO
from max_whisper.weights.source import SourceTensor, TensorSource, register

MODEL = "silero-16k"
SETTINGS = 6
"""The numbers behind the name: three of a version, the samples of a chunk and of its context, and the convolutions."""
FINAL = "_model.decoder.decoder.2"
"""The last convolution, which files have without the axes of length 1."""
FINAL_RANKS = {f"{FINAL}.weight": 1, f"{FINAL}.bias": 0}


@register("ggml_silero")
class GgmlSilero(TensorSource):
    """The tensors of a ggml file of Silero VAD."""

    renames = SILERO

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tensors = read_with(_read, path)

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        return not is_folder(path) and model_name(path) == MODEL

    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def info(self, name: str) -> SourceTensor:
        tensor = self._tensors[name]
        return SourceTensor(FLOAT16 if tensor.type.name == "f16" else FLOAT32, tensor.shape, self.path)

    def read(self, name: str) -> NDArray[Any]:
        tensor = self._tensors[name]
        return tensor.data.reshape(tensor.shape)


def _read(cursor: Cursor) -> dict[str, StoredTensor]:
    """Returns the tensors of a file by name; raises Fault.

    The shapes in the header are skipped: those of the tensors are compared with the spec.
    """
    cursor.take(len(MAGIC) + 4 + len(MODEL), "the name of the model")
    *_, convolutions = cursor.integers(SETTINGS, "the header")
    if not 0 < convolutions <= LONGEST_MODEL:
        raise Fault(f"it has {convolutions} convolutions, expected 4; {ADVICE}")
    cursor.integers(3 * convolutions + 4, "the header")
    tensors: dict[str, StoredTensor] = {}
    while cursor.left:
        name, tensor = read_tensor(cursor)
        if tensor.type.dequantize is not None:
            raise Fault(f"tensor {quote(name)} is of type {tensor.type.name}, expected f16 or f32; {ADVICE}")
        if name in tensors:
            raise Fault(f"it holds tensor {quote(name)} twice; {ADVICE}")
        tensors[name] = _with_all_axes(name, tensor)
    return tensors


def _with_all_axes(name: str, tensor: StoredTensor) -> StoredTensor:
    """Returns a tensor with the axes that a spec has: those of the last convolution have lost theirs of length 1."""
    rank = FINAL_RANKS.get(name)
    if rank is None:
        return tensor
    if len(tensor.shape) != rank:
        raise Fault(f"tensor {quote(name)} has the dimensions {list(tensor.shape)}, expected {rank}; {ADVICE}")
    return replace(tensor, shape=(1, *tensor.shape, *[1] * rank))
