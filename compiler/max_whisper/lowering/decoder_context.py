"""The context that the layers of a decoder share while its graph is recorded: positions, KV caches, queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from max_whisper.lowering.ops import Value

T = TypeVar("T")
KeysValues = tuple[Value, Value]  # [batch, heads, length, channels of a head] each


@dataclass
class DecoderContext:
    """The inputs of a decoder's graph besides tokens, and the queries that its layers compute.

    Attributes:
        position: The position of the first token, an int64 scalar on the host.
        caches: The KV cache of each self-attention, in order.
        cross: The keys and values of the features for each cross-attention, in order, by the names of its operands.
        logits_from: The index of the first token that logits are computed for; None for all tokens.
        queries: The queries of each cross-attention, in order, added as they are recorded.
    """

    position: Value
    caches: Iterator[KeysValues]
    cross: Iterator[Mapping[str, Value]]
    logits_from: Value | None = None
    queries: list[Value] = field(default_factory=list)


def next_of(caches: Iterator[T], advice: str) -> T:
    """Returns the next keys and values. Raises ValueError, with advice, where none are left."""
    cache = next(caches, None)
    if cache is None:
        raise ValueError(f"there is no KV cache for this layer: {advice}")
    return cache
