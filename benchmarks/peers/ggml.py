"""Writes whisper.cpp's model file, by the description in whisper.cpp's models/README and that of ggml's Q8_0 blocks.

Everything is little-endian: a header of int32 (magic, dimensions, type), the mel filters, the vocabulary, then the
tensors under openai/whisper's names. Each tensor begins with its number of dimensions, the length of its name, its
type, its dimensions (the fastest first) and its name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x67676D6C
DIMENSIONS = (  # the fields of openai/whisper's ModelDimensions, in the header's order
    "n_vocab",
    "n_audio_ctx",
    "n_audio_state",
    "n_audio_head",
    "n_audio_layer",
    "n_text_ctx",
    "n_text_state",
    "n_text_head",
    "n_text_layer",
    "n_mels",
)
FILE_TYPES = {"float16": 1, "q8_0": 2007}
"""The header's number for the type of most tensors; 2000 is the second version of quantized blocks."""
F32, F16, Q8_0 = 0, 1, 8
"""The numbers of a tensor's types."""
BLOCK = 32
"""The length of a Q8_0 block, whose values share a scale."""
CONV_BIASES = ("conv1.bias", "conv2.bias")
ADDED = (*CONV_BIASES, "positional_embedding")
"""The tensors that are added to activations, which whisper.cpp reads as float32 whatever their rank."""


def write_ggml(
    file: Path,
    dims: Mapping[str, int],
    mel_filters: NDArray[np.float32],
    vocabulary: Sequence[bytes],
    tensors: Mapping[str, NDArray[Any]],
    kind: str,
) -> None:
    """Writes a model with its matrices as `kind`, one of FILE_TYPES.

    `mel_filters` is float32 [n_mels, 201]; `vocabulary` holds the bytes of each text token, by its id.
    """
    with file.open("wb") as out:
        out.write(struct.pack("<I11i", MAGIC, *(dims[name] for name in DIMENSIONS), FILE_TYPES[kind]))
        out.write(struct.pack("<2i", *mel_filters.shape) + mel_filters.astype("<f4").tobytes())
        out.write(struct.pack("<i", len(vocabulary)))
        for token in vocabulary:
            out.write(struct.pack("<I", len(token)) + token)
        for name, array in tensors.items():
            write_tensor(out, name, array, kind)


def write_tensor(out: BinaryIO, name: str, array: NDArray[Any], kind: str) -> None:
    """Writes a tensor: a matrix as `kind`, a convolution as float16, a bias, norm or positions as float32."""
    if name.endswith(CONV_BIASES):
        array = array[:, None]  # as it is added, to [channels, frames]
    if array.ndim == 1 or name.endswith(ADDED):
        type_, data = F32, array.astype("<f4").tobytes()
    elif array.ndim == 2 and kind == "q8_0":
        type_, data = Q8_0, q8_0(array)
    else:
        type_, data = F16, array.astype("<f2").tobytes()
    out.write(struct.pack(f"<3i{array.ndim}i", array.ndim, len(name), type_, *reversed(array.shape)))
    out.write(name.encode() + data)


def q8_0(array: NDArray[Any]) -> bytes:
    """Returns an array as blocks of 32 neighbors: a float16 scale, then the values as int8 multiples of it."""
    blocks = array.astype(np.float32).reshape(-1, BLOCK)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / 127
    packed = np.empty(len(blocks), np.dtype([("scale", "<f2"), ("multiples", "i1", BLOCK)]))
    packed["scale"] = scales[:, 0]
    packed["multiples"] = np.rint(np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales > 0))
    return packed.tobytes()
