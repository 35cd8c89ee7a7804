"""Reads which cross-attention heads follow the audio, from a checkpoint; words get their times from these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from max_whisper.weights.hub_files import GENERATION, FileFinder
from max_whisper.weights.json_files import GenerationConfiguration, read_json

# The heads of OpenAI's models, by layer (openai/whisper, __init__.py, `_ALIGNMENT_HEADS`), behind the dimensions that
# tell the models apart: layers and heads per layer of the decoder, and tokens.
_Published = tuple[tuple[int, int, int], Mapping[int, Sequence[int]]]
PUBLISHED: Mapping[str, _Published] = {
    "tiny.en": ((4, 6, 51864), {1: [0], 2: [0, 5], 3: [0, 1, 2, 3, 4]}),
    "tiny": ((4, 6, 51865), {2: [2], 3: [0, 2, 3, 4, 5]}),
    "base.en": ((6, 8, 51864), {3: [3], 4: [7], 5: [1, 5, 7]}),
    "base": ((6, 8, 51865), {3: [1], 4: [2, 3, 7], 5: [1, 2, 4, 6]}),
    "small.en": (
        (12, 12, 51864),
        {6: [6], 7: [0, 3, 8], 8: [2, 5, 7], 9: [0, 4, 8, 10], 10: [0, 1, 2, 3, 6, 11], 11: [2, 4]},
    ),
    "small": ((12, 12, 51865), {5: [3, 9], 8: [0, 4, 7, 8], 9: [0, 7, 9], 10: [5]}),
    "medium.en": (
        (24, 16, 51864),
        {11: [4], 14: [1, 12, 14], 15: [4], 16: [0, 4, 9], 17: [12, 14], 18: [7, 10, 15]}
        | {20: [0, 3, 9, 14], 21: [12]},
    ),
    "medium": ((24, 16, 51865), {13: [15], 15: [4, 15], 16: [1], 20: [0], 23: [4]}),
    "large-v2": (
        (32, 20, 51865),
        {10: [12], 13: [17], 16: [11, 12, 13], 17: [15, 16], 18: [4, 11, 19], 19: [11], 21: [2, 3]}
        | {22: [3, 9, 12], 23: [5, 7, 13], 25: [5], 26: [1, 12], 27: [15]},
    ),
    "large-v3": (
        (32, 20, 51866),
        {7: [0], 10: [17], 12: [18], 13: [12], 16: [1], 17: [14], 19: [11], 21: [4], 24: [1], 25: [6]},
    ),
    "large-v3-turbo": ((4, 20, 51866), {2: [4, 11], 3: [3, 6, 11, 14]}),
}


@dataclass(frozen=True)
class AlignmentHeads:
    """The alignment heads of a checkpoint.

    Attributes:
        heads: The heads in order, as (layer, head), both counted from 0.
        origin: A sentence for people that says where they come from, if the checkpoint does not list them; or "".
    """

    heads: list[tuple[int, int]]
    origin: str = ""


def read_alignment_heads(file: FileFinder, heads: Sequence[int], n_vocab: int) -> AlignmentHeads:
    """Returns the alignment heads of a checkpoint in the layout of the Hub, as `choose_heads` takes them.

    Args:
        file: A function that returns the path of one of the checkpoint's files, or None (`Checkpoint.file`).
        heads: As for `choose_heads`.
        n_vocab: As for `choose_heads`.

    Raises:
        WeightsError: The checkpoint lists something other than pairs of numbers.
    """
    path = file(GENERATION)
    listed = None if path is None else read_json(path, GenerationConfiguration).alignment_heads
    return choose_heads(listed or [], heads, n_vocab)


def choose_heads(listed: Sequence[tuple[int, int]], heads: Sequence[int], n_vocab: int) -> AlignmentHeads:
    """Returns the listed alignment heads that a model has, or else its default.

    A checkpoint that lists none, and has the dimensions of a model of OpenAI's, has the heads of that model: most such
    checkpoints are that model, or fine-tuned from it. large-v1 and large-v2 have equal dimensions: both get the heads
    of large-v2, which replaced it. Any other model has all heads of the last half of its layers (openai/whisper,
    model.py). Heads that the model does not have are left out, because distilled checkpoints may list their teacher's.

    Args:
        listed: The heads that a checkpoint lists, as (layer, head).
        heads: The number of heads of each cross-attention layer of the decoder.
        n_vocab: The number of tokens.
    """
    all_heads = [(layer, head) for layer, n in enumerate(heads) for head in range(n)]
    if known := sorted(set(listed) & set(all_heads)):
        return AlignmentHeads(known)
    if (name := _published(heads, n_vocab)) is not None:
        which = f"the alignment heads of OpenAI's {name}"
        chosen = [(layer, head) for layer, numbers in PUBLISHED[name][1].items() for head in numbers]
    else:
        which = "all cross-attention heads of the last half of the layers"
        chosen = [(layer, head) for layer, head in all_heads if layer >= len(heads) // 2]
    return AlignmentHeads(chosen, f"word times follow {which}, as the checkpoint lists none")


def _published(heads: Sequence[int], n_vocab: int) -> str | None:
    """Returns the name of OpenAI's model of these dimensions; None if there is none."""
    for name, ((n_layers, n_heads, tokens), _) in PUBLISHED.items():
        if [n_heads] * n_layers == list(heads) and tokens == n_vocab:
            return name
    return None
