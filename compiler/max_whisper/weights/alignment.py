"""Which heads of the cross-attention follow the sound, so that words get times: the checkpoint knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from max_whisper.errors import WeightsError
from max_whisper.weights.layout import read_json

FILE = "generation_config.json"
KEY = "alignment_heads"


def read_alignment_heads(file: Callable[[str], Path | None], heads: Sequence[int]) -> list[tuple[int, int]]:
    """(layer, head) in order, both counted from 0.

    file: gives the path of one of the checkpoint's files, or None (`Checkpoint.file`). heads: how many each
    cross-attention of the decoder has.

    A checkpoint that lists none has all those of the last half of its layers (openai/whisper, model.py). Heads that the
    model does not have are left out: distilled checkpoints may list their teacher's. Raises WeightsError for what is no
    list of pairs.
    """
    path = file(FILE)
    listed = None if path is None else read_json(path).get(KEY)
    if listed is not None and not (isinstance(listed, list) and all(map(_is_pair, listed))):
        raise WeightsError(f"{FILE}: {KEY} must be a list of [layer, head], not {str(listed)[:80]}")
    everything = [(layer, head) for layer, n in enumerate(heads) for head in range(n)]
    known = sorted({(layer, head) for layer, head in listed or []} & set(everything))
    return known or [(layer, head) for layer, head in everything if layer >= len(heads) // 2]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(i) is int for i in value)
