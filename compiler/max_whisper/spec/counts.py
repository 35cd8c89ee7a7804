"""Counts the elements of weights and of KV caches that a model reads from memory."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from max_whisper.spec.family import families
from max_whisper.spec.layer import TensorSpec
from max_whisper.spec.layers.cross_attention import CrossAttention
from max_whisper.spec.layers.positions import Positions
from max_whisper.spec.model import Spec


def weights_read(spec: Spec, size: Callable[[TensorSpec], int] = attrgetter("size")) -> tuple[int, int]:
    """Returns the elements of weights that are read once per window, and those that are read for each token.

    Once per window are the weights of the encoder, and of the keys and values of its features. `size` replaces the
    number of elements of a tensor, for example by its bytes.
    """
    window, per_token = window_tensors(spec), 0
    for node in spec.decoder.walk():
        rows = node.input_shape.length if isinstance(node.layer, Positions) else 1  # a token reads one row of the table
        per_token += sum(size(tensor) for tensor in node.tensors if tensor.name not in window) // rows
    return sum(size(tensor) for tensor in spec.tensors() if tensor.name in window), per_token


def window_tensors(spec: Spec) -> set[str]:
    """Returns the names of the tensors that are used once per window."""
    window_parts = [spec.parts[part] for part in families()[spec.family].window_parts]
    return {tensor.name for part in window_parts for node in part.walk() for tensor in node.tensors} | {
        tensor.name
        for part in spec.parts.values()
        for node in part.walk()
        for tensor in node.layer.memory_tensors(node.input_shape)
    }


def cross_kv_size(spec: Spec) -> int:
    """Returns the elements of a window's cross-attention KV cache, all of which each token reads."""
    channels = [node.input_shape.channels for node in spec.decoder.walk() if isinstance(node.layer, CrossAttention)]
    return 2 * spec.n_audio_ctx * sum(channels)


def self_kv_size(spec: Spec) -> int:
    """Returns the elements that each token adds to the self-attention KV cache, and that all later tokens read."""
    return 2 * sum(node.input_shape.channels for node in spec.decoder.walk() if node.layer.self_attention)
