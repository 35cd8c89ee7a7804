"""The types of tensors in ggml files, and their elements as float32.

Quantized types hold 32 neighbors of a row in a block: a scale, for some types an offset, and integers of 4, 5 or 8
bits. An element is scale * integer (+ offset), where scale and offset are float16; the formulas and the order of the
bits are those of ggml (ggml-quants.c, `dequantize_row_*`). The product of such an integer and a float16 is exact in
float32, so that an element does not depend on how it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""The elements of a block."""
VERSION = 2
"""The version of the layout of blocks that is read here; in version 1 scales were float32."""

Blocks = NDArray[np.void]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BlockType:
    """A type of tensors.

    Attributes:
        name: Its name in ggml.
        layout: The layout of a block, or of an element of a type without blocks.
        elements: The elements of a block.
        dequantize: A function that returns the elements of blocks, float32 [blocks, 32]; None for types without blocks.
    """

    name: str
    layout: np.dtype[Any]
    elements: int = 1
    dequantize: Callable[[Blocks], Floats] | None = None


def _q4_0(blocks: Blocks) -> Floats:
    return _scaled(blocks, _nibbles(blocks).astype(np.int8) - 8)


def _q4_1(blocks: Blocks) -> Floats:
    return _scaled(blocks, _nibbles(blocks)) + _column(blocks, "offset")


def _q5_0(blocks: Blocks) -> Floats:
    return _scaled(blocks, _five_bits(blocks).astype(np.int8) - 16)


def _q5_1(blocks: Blocks) -> Floats:
    return _scaled(blocks, _five_bits(blocks)) + _column(blocks, "offset")


def _q8_0(blocks: Blocks) -> Floats:
    return _scaled(blocks, blocks["integers"])


def _scaled(blocks: Blocks, integers: NDArray[Any]) -> Floats:
    scaled: Floats = integers.astype(np.float32) * _column(blocks, "scale")
    return scaled


def _column(blocks: Blocks, field: str) -> Floats:
    """Returns a float16 of each block, float32 [blocks, 1]."""
    return blocks[field].astype(np.float32)[:, None]


def _nibbles(blocks: Blocks) -> NDArray[np.uint8]:
    """Returns integers of 4 bits, [blocks, 32]: the lower halves of all bytes, and then the upper ones."""
    pairs = blocks["nibbles"]
    return np.concatenate([pairs & 15, pairs >> 4], axis=1)


def _five_bits(blocks: Blocks) -> NDArray[np.uint8]:
    """Returns integers of 5 bits, [blocks, 32]: nibbles, and their highest bits in the order of the elements."""
    highest = np.unpackbits(blocks["highest"], axis=1, bitorder="little")
    return _nibbles(blocks) | np.left_shift(highest, 4, dtype=np.uint8)


def _layout(*fields: str) -> np.dtype[Any]:
    """Returns the layout of a block with these fields, in this order."""
    return np.dtype([(field, *_FIELDS[field]) for field in fields])


_FIELDS: Mapping[str, tuple[Any, ...]] = {
    "scale": ("<f2",),
    "offset": ("<f2",),
    "highest": ("u1", BLOCK // 8),
    "nibbles": ("u1", BLOCK // 2),
    "integers": ("i1", BLOCK),
}

TYPES: Mapping[int, BlockType] = {
    0: BlockType("f32", np.dtype("<f4")),
    1: BlockType("f16", np.dtype("<f2")),
    2: BlockType("q4_0", _layout("scale", "nibbles"), BLOCK, _q4_0),
    3: BlockType("q4_1", _layout("scale", "offset", "nibbles"), BLOCK, _q4_1),
    6: BlockType("q5_0", _layout("scale", "highest", "nibbles"), BLOCK, _q5_0),
    7: BlockType("q5_1", _layout("scale", "offset", "highest", "nibbles"), BLOCK, _q5_1),
    8: BlockType("q8_0", _layout("scale", "integers"), BLOCK, _q8_0),
}
"""The types that are read, by their numbers in files (ggml.h, `ggml_type`)."""

UNREAD: Mapping[int, str] = {
    **{9: "q8_1", 10: "q2_k", 11: "q3_k", 12: "q4_k", 13: "q5_k", 14: "q6_k", 15: "q8_k"},
    **{16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 20: "iq4_nl", 21: "iq3_s", 22: "iq2_s", 23: "iq4_xs"},
    **{24: "i8", 25: "i16", 26: "i32", 27: "i64", 28: "f64", 29: "iq1_m", 30: "bf16", 34: "tq1_0", 35: "tq2_0"},
    **{39: "mxfp4", 40: "nvfp4", 41: "q1_0", 42: "q2_0"},
}
"""The names of the other types, for messages."""
