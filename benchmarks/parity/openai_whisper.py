"""Loads openai/whisper with the weights of a checkpoint, as the reference of whole transcriptions.

`recordings.py` and `tests/golden/make_transcribe.py` use it. It needs torch and openai-whisper.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from max_whisper.tensors import safetensors_file
from max_whisper.weights.alignment import read_alignment_heads
from max_whisper.weights.names import OPENAI

from benchmarks.peers.conversion import TIED, dimensions

MIN_MARGIN = 5e-5  # by which a token must beat the others, or another machine may rightly choose another


def openai_model(folder: Path, cls: Any = None) -> Any:
    """Returns a `whisper.model.Whisper` in float32, or a class derived from it, with a Hub checkpoint's weights."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    dims = ModelDimensions(**dimensions(folder))
    model = (cls or Whisper)(dims)
    arrays = safetensors_file.open_tensors(folder / "model.safetensors")
    arrays.pop(TIED, None)  # tied to the embedding, which is there
    tensors = {name: torch.from_numpy(np.array(array)).float() for name, array in arrays.items()}
    model.load_state_dict({OPENAI.renamed(name): tensor for name, tensor in tensors.items()})
    listed = read_alignment_heads(lambda name: folder / name, [dims.n_text_head] * dims.n_text_layer, dims.n_vocab)
    heads = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
    heads[tuple(zip(*listed.heads, strict=True))] = True
    model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    return model.eval()


def watch_margins() -> list[float]:
    """Returns a list that receives, from now on, how much the best score exceeds the second at each greedy choice."""
    from whisper.decoding import GreedyDecoder

    margins: list[float] = []
    update = GreedyDecoder.update

    def watched(decoder: Any, tokens: Any, logits: Any, sum_logprobs: Any) -> Any:
        best, second = logits[0].topk(2).values.tolist()
        margins.append(best - second)
        return update(decoder, tokens, logits, sum_logprobs)

    GreedyDecoder.update = watched
    return margins
