"""Which heads of the cross-attention follow the sound, so that words get times: the checkpoint knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from max_whisper.weights.json_files import GenerationConfiguration, read_json
from max_whisper.weights.layout import GENERATION


def read_alignment_heads(file: Callable[[str], Path | None], heads: Sequence[int]) -> list[tuple[int, int]]:
    """(layer, head) in order, both counted from 0.

    file: gives the path of one of the checkpoint's files, or None (`Checkpoint.file`). heads: how many each
    cross-attention of the decoder has.

    A checkpoint that lists none has all those of the last half of its layers (openai/whisper, model.py). Heads that the
    model does not have are left out: distilled checkpoints may list their teacher's. Raises WeightsError for what is no
    list of pairs.
    """
    path = file(GENERATION)
    listed = None if path is None else read_json(path, GenerationConfiguration).alignment_heads
    everything = [(layer, head) for layer, n in enumerate(heads) for head in range(n)]
    known = sorted(set(listed or []) & set(everything))
    return known or [(layer, head) for layer, head in everything if layer >= len(heads) // 2]
