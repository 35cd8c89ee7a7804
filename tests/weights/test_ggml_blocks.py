"""Tests the types of ggml's tensors against ggml itself: blocks that it wrote, and its own elements of them."""

from __future__ import annotations

import numpy as np
import pytest
from max_whisper.weights.formats.ggml_blocks import BLOCK, TYPES
from support import ggml

QUANTIZED = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]


def ours(data: bytes, kind: str) -> np.ndarray:
    of_type = TYPES[ggml.TYPES[kind]]
    assert of_type.dequantize is not None
    with np.errstate(invalid="ignore"):  # infinity * 0
        return of_type.dequantize(np.frombuffer(data, of_type.layout))


def rows() -> np.ndarray:
    """Returns rows of many kinds, float32 [rows, 256]."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((64, 256)).astype(np.float32)
    kinds = [
        normal,
        normal * np.float32(0.02),
        np.abs(normal[:4]),
        -np.abs(normal[:4]),
        np.zeros((2, 256), np.float32),
        np.full((1, 256), 5, np.float32),
        np.where(rng.random((8, 256)) < 0.1, normal[:8], 0).astype(np.float32),  # zero but for a few
        normal[:4] * np.float32(1e-6),  # scales are subnormal
        normal[:4] * np.float32(1e-8),  # and scales are zero
        normal[:4] * np.float32(1e-44),
        normal[:4] * np.float32(6e4),
        normal[:4] * np.float32(1e37),  # scales are infinite
    ]
    return np.concatenate(kinds)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_elements_equal_those_of_ggml_bit_for_bit(kind: str) -> None:
    data = ggml.quantize(rows(), kind)
    expected = ggml.dequantize(data, kind)
    elements = ours(data, kind)
    assert elements.dtype == np.float32 and elements.shape == (expected.size // BLOCK, BLOCK)
    finite = np.isfinite(expected)
    assert 0.9 < np.mean(finite) < 1
    np.testing.assert_array_equal(elements.reshape(-1)[finite].view(np.uint32), expected[finite].view(np.uint32))
    np.testing.assert_array_equal(elements.reshape(-1), expected)  # NaN and infinities in the same places


@pytest.mark.parametrize("kind", QUANTIZED)
def test_elements_of_any_bytes_equal_those_of_ggml(kind: str) -> None:
    """No writer makes all of these blocks."""
    size = TYPES[ggml.TYPES[kind]].layout.itemsize
    data = np.random.default_rng(1).integers(0, 256, 5000 * size, np.uint8).tobytes()
    np.testing.assert_array_equal(ours(data, kind).reshape(-1), ggml.dequantize(data, kind))


def test_sizes_and_names_are_those_of_ggml() -> None:
    for number, of_type in TYPES.items():
        theirs = ggml.traits(of_type.name)
        assert ggml.TYPES[of_type.name] == number
        assert (of_type.layout.itemsize, of_type.elements) == (theirs.type_size, theirs.blck_size)
