"""What the layers of a decoder share while its graph is recorded: positions, KV caches, queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from max_whisper.lowering.ops import Value

KeysValues = tuple[Value, Value]  # [batch, heads, length, channels of a head] each


@dataclass
class DecoderContext:
    """The inputs of a decoder's graph that its layers read besides tokens, and the queries that they compute."""

    position: Value  # of the first token, an int64 scalar on the host
    caches: Iterator[KeysValues]  # the KV cache of each self-attention, in order
    cross: Iterator[KeysValues]  # the keys and values of the features for each cross-attention, in order
    logits_from: Value | None = None  # the first token that logits are computed for; None is the first of all
    queries: list[Value] = field(default_factory=list)  # of each cross-attention, in order, added as it is recorded


def next_pair(pairs: Iterator[KeysValues], advice: str) -> KeysValues:
    """Returns the next pair. Raises ValueError with the advice where there is none left."""
    pair = next(pairs, None)
    if pair is None:
        raise ValueError(f"there is no KV cache for this layer: {advice}")
    return pair
