"""Reads which cross-attention heads follow the audio, from a checkpoint; words get their times from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from max_whisper.weights.hub_files import GENERATION, FileFinder
from max_whisper.weights.json_files import GenerationConfiguration, read_json

LAST_HALF = "word times follow all cross-attention heads of the last half of the layers, as the checkpoint lists none"
"""Where the heads of a checkpoint come from that lists none."""


@dataclass(frozen=True)
class AlignmentHeads:
    """The alignment heads of a checkpoint.

    Attributes:
        heads: The heads in order, as (layer, head), both counted from 0.
        origin: A sentence for people that says where they come from, if the checkpoint does not list them; or "".
    """

    heads: list[tuple[int, int]]
    origin: str = ""


def read_alignment_heads(file: FileFinder, heads: Sequence[int]) -> AlignmentHeads:
    """Returns the alignment heads of a checkpoint in the layout of the Hub, as `choose_heads` takes them.

    Args:
        file: A function that returns the path of one of the checkpoint's files, or None (`Checkpoint.file`).
        heads: The number of heads of each cross-attention layer of the decoder.

    Raises:
        WeightsError: The checkpoint lists something other than pairs of numbers.
    """
    path = file(GENERATION)
    listed = None if path is None else read_json(path, GenerationConfiguration).alignment_heads
    return choose_heads(listed or [], heads)


def choose_heads(listed: Sequence[tuple[int, int]], heads: Sequence[int]) -> AlignmentHeads:
    """Returns the listed alignment heads that a model has, or else its default.

    A checkpoint that lists none has all heads of the last half of its layers (openai/whisper, model.py). Heads that the
    model does not have are left out, because distilled checkpoints may list their teacher's.

    Args:
        listed: The heads that a checkpoint lists, as (layer, head).
        heads: The number of heads of each cross-attention layer of the decoder.
    """
    all_heads = [(layer, head) for layer, n in enumerate(heads) for head in range(n)]
    if known := sorted(set(listed) & set(all_heads)):
        return AlignmentHeads(known)
    return AlignmentHeads([(layer, head) for layer, head in all_heads if layer >= len(heads) // 2], LAST_HALF)
