"""Reads from a checkpoint which heads of the cross-attention follow the audio, so that words get times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from max_whisper.weights.hub_files import GENERATION
from max_whisper.weights.json_files import GenerationConfiguration, read_json


def read_alignment_heads(file: Callable[[str], Path | None], heads: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the heads as (layer, head) in order, both counted from 0.

    file: returns the path of one of the checkpoint's files, or None (`Checkpoint.file`). heads: the number of heads of
    each cross-attention of the decoder.

    A checkpoint that lists none has all those of the last half of its layers (openai/whisper, model.py). Heads that the
    model does not have are left out: distilled checkpoints may list their teacher's. Raises WeightsError for what is no
    list of pairs.
    """
    path = file(GENERATION)
    listed = None if path is None else read_json(path, GenerationConfiguration).alignment_heads
    everything = [(layer, head) for layer, n in enumerate(heads) for head in range(n)]
    known = sorted(set(listed or []) & set(everything))
    return known or [(layer, head) for layer, head in everything if layer >= len(heads) // 2]
