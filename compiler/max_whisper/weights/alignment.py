"""Reads which cross-attention heads follow the audio, from a checkpoint; words get their times from these."""

from __future__ import annotations

from collections.abc import Sequence

from max_whisper.weights.hub_files import GENERATION, FileFinder
from max_whisper.weights.json_files import GenerationConfiguration, read_json


def read_alignment_heads(file: FileFinder, heads: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the alignment heads in order, as (layer, head), both counted from 0.

    A checkpoint that lists none has all heads of the last half of its layers (openai/whisper, model.py). Heads that the
    model does not have are left out, because distilled checkpoints may list their teacher's.

    Args:
        file: A function that returns the path of one of the checkpoint's files, or None (`Checkpoint.file`).
        heads: The number of heads of each cross-attention layer of the decoder.

    Raises:
        WeightsError: The checkpoint lists something other than pairs of numbers.
    """
    path = file(GENERATION)
    listed = None if path is None else read_json(path, GenerationConfiguration).alignment_heads
    all_heads = [(layer, head) for layer, n in enumerate(heads) for head in range(n)]
    known = sorted(set(listed or []) & set(all_heads))
    return known or [(layer, head) for layer, head in all_heads if layer >= len(heads) // 2]
