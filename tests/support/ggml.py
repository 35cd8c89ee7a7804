"""Writes whisper.cpp's model files with ggml's own quantizer, and runs them in whisper.cpp itself (pywhispercpp).

The unquantized files have the bytes that whisper.cpp's convert-pt-to-ggml.py writes for the same weights; this was
compared once, for OpenAI's tiny.en and base. Tensors are quantized as by whisper.cpp's whisper-quantize, from float16.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
from max_whisper.mel_filters import mel_filters
from max_whisper.spec import Spec, load_spec
from max_whisper.weights.checkpoint import Checkpoint, open_checkpoint
from max_whisper.weights.names import OPENAI

Array = np.ndarray[Any, Any]

TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q6_k": 14}
"""The number of each type in the head of a tensor."""
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2002, "q4_1": 2003, "q5_0": 2008, "q5_1": 2009, "q8_0": 2007}
FILE_TYPES |= {"q2_k": 2010, "q6_k": 2014}
"""The number of each type in the head of a file."""
DIMENSIONS = (  # a spec's dimensions in the order of the head of a file
    *("n_vocab", "n_audio_ctx", "d_model", "n_heads", "encoder_layers"),
    *("n_text_ctx", "d_model", "n_heads", "decoder_layers", "n_mels"),
)
CONVOLUTION_BIASES = ("encoder.conv1.bias", "encoder.conv2.bias")
ADDED = (*CONVOLUTION_BIASES, "encoder.positional_embedding", "decoder.positional_embedding")
"""The tensors that stay float32 whatever their rank."""


# --- files


def write_ggml(path: Path, spec: str | Path, checkpoint: Path, kind: str) -> Path:
    """Writes the model of a checkpoint, with matrices of a type of TYPES; returns `path`."""
    model, opened = load_spec(spec), open_checkpoint(checkpoint)
    dims = [model.dims[name] for name in DIMENSIONS]
    ranks = opened.vocabulary(model.n_vocab).ranks
    path.write_bytes(head(dims, FILE_TYPES[kind]) + filters(model.n_mels) + tokens(ranks))
    with path.open("ab") as file:
        for name, array in openai_tensors(model, opened).items():
            file.write(tensor(name, array, kind))
    return path


def openai_tensors(spec: Spec, checkpoint: Checkpoint) -> Mapping[str, Array]:
    """Returns the tensors of a checkpoint, float32, by openai/whisper's names."""
    names = [tensor.name for tensor in spec.tensors() if not tensor.computed]
    return {OPENAI.renamed(name): checkpoint.read(name, "float32") for name in names}


def head(dims: list[int], file_type: int) -> bytes:
    return struct.pack("<I11i", 0x67676D6C, *dims, file_type)


def filters(n_mels: int) -> bytes:
    values = mel_filters(n_mels)
    return struct.pack("<2i", *values.shape) + values.tobytes()


def tokens(ranks: list[bytes]) -> bytes:
    return struct.pack("<i", len(ranks)) + b"".join(struct.pack("<i", len(token)) + token for token in ranks)


def tensor(name: str, array: Array, kind: str) -> bytes:
    """Returns the bytes of a tensor: its head and its elements."""
    if name in CONVOLUTION_BIASES:
        array = array[:, None]
    if array.ndim == 1 or name in ADDED or kind == "f32":
        kind, data = "f32", array.astype("<f4").tobytes()
    elif array.ndim == 2 and kind != "f16":
        data = quantize(array.astype("<f2").astype(np.float32), kind)
    else:
        kind, data = "f16", array.astype("<f2").tobytes()
    return raw_tensor(name, array.shape, TYPES[kind], data)


def raw_tensor(name: str, shape: tuple[int, ...], number: int, data: bytes) -> bytes:
    start = struct.pack(f"<{3 + len(shape)}i", len(shape), len(name), number, *reversed(shape))
    return start + name.encode() + data


# --- ggml


class TypeTraits(ctypes.Structure):
    """ggml.h, `ggml_type_traits`."""

    _fields_ = [
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    ]


@cache
def library(name: str) -> ctypes.CDLL:
    """Returns a library of pywhispercpp, such as "ggml-base"; the wheel has a hash in the names of its files."""
    (path,) = [
        file
        for file in files("pywhispercpp") or []
        if f"pywhispercpp.libs/lib{name}-" in str(file)
        and (name != "ggml" or not str(file.name).startswith(("libggml-base", "libggml-cpu")))
    ]
    return ctypes.CDLL(str(path.locate()))


def traits(kind: str) -> TypeTraits:
    """Returns what ggml knows about a type."""
    function = library("ggml-base").ggml_get_type_traits
    function.restype = ctypes.POINTER(TypeTraits)
    found: TypeTraits = function(TYPES[kind]).contents
    assert found.type_name.lower() == kind.encode()
    return found


def quantize(array: Array, kind: str) -> bytes:
    """Returns the rows of a matrix as blocks of a type, by ggml's `ggml_quantize_chunk`."""
    source = np.require(array, np.float32, "C")
    rows, columns = source.shape
    of_type = traits(kind)
    blocks = np.empty(source.size // of_type.blck_size * of_type.type_size, np.uint8)
    function = library("ggml-base").ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    sizes = ctypes.c_int64(0), ctypes.c_int64(rows), ctypes.c_int64(columns)
    pointers = ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(blocks.ctypes.data)
    assert function(TYPES[kind], *pointers, *sizes, None) == len(blocks)
    return blocks.tobytes()


def dequantize(data: bytes, kind: str) -> Array:
    """Returns the elements of blocks, float32, by ggml's own function for that type."""
    of_type = traits(kind)
    blocks = np.frombuffer(data, np.uint8)
    elements = np.empty(len(blocks) // of_type.type_size * of_type.blck_size, np.float32)
    of_type.to_float(blocks.ctypes.data, elements.ctypes.data, len(elements))
    return elements


# --- whisper.cpp


class ContextParameters(ctypes.Structure):
    """whisper.h, `whisper_context_params`."""

    _fields_ = [
        ("use_gpu", ctypes.c_bool),
        ("flash_attn", ctypes.c_bool),
        ("gpu_device", ctypes.c_int),
        ("dtw_token_timestamps", ctypes.c_bool),
        ("dtw_aheads_preset", ctypes.c_int),
        ("dtw_n_top", ctypes.c_int),
        ("dtw_aheads_n", ctypes.c_size_t),
        ("dtw_aheads", ctypes.c_void_p),
        ("dtw_mem_size", ctypes.c_size_t),
    ]


class Engine:
    """A model that whisper.cpp has loaded from a file.

    Its flash attention is off: it pads keys with zeros to a multiple of 256, and gives these a share of the attention,
    which is large for a window as short as those of tests.
    """

    def __init__(self, path: Path) -> None:
        self._library = library("whisper")
        self._library.whisper_context_default_params.restype = ContextParameters
        self._library.whisper_init_from_file_with_params.restype = ctypes.c_void_p
        self._library.whisper_init_from_file_with_params.argtypes = [ctypes.c_char_p, ContextParameters]
        self._library.whisper_get_logits.restype = ctypes.POINTER(ctypes.c_float)
        parameters = self._library.whisper_context_default_params()
        parameters.flash_attn = parameters.use_gpu = False
        context = self._library.whisper_init_from_file_with_params(str(path).encode(), parameters)
        assert context, f"whisper.cpp does not load {path}"
        self._context = ctypes.c_void_p(context)

    def close(self) -> None:
        self._library.whisper_free(self._context)

    def logits(self, mel: Array, ids: list[int]) -> Array:
        """Returns the logits behind each of some tokens of a window, float32 [tokens, n_vocab].

        Args:
            mel: The log-mel spectrogram of the window, float32 [n_mels, frames].
            ids: The tokens, teacher-forced.
        """
        mel = np.require(mel, np.float32, "C")
        n_mels, frames = mel.shape
        pointer = ctypes.c_void_p(mel.ctypes.data)
        assert self._library.whisper_set_mel(self._context, pointer, frames, n_mels) == 0
        assert self._library.whisper_encode(self._context, 0, 2) == 0
        return np.stack([self._step(token, i) for i, token in enumerate(ids)])

    def _step(self, token: int, past: int) -> Array:
        one = (ctypes.c_int * 1)(token)
        assert self._library.whisper_decode(self._context, one, 1, past, 2) == 0
        n_vocab = self._library.whisper_n_vocab(self._context)
        return np.ctypeslib.as_array(self._library.whisper_get_logits(self._context), (n_vocab,)).copy()
