"""Writes the thinnest model: the fewest layers of which an artifact can be made, for what is slow to compile."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from max_whisper.spec import load_spec
from support.models.checkpoint import Weights, write_checkpoint, write_safetensors
from support.models.small import TOKENS
from support.models.vocabulary import write_json

THIN = """\
name: thin
dims: {n_mels: 80, n_audio_ctx: 50, d_model: 32, n_heads: 2, n_vocab: N_VOCAB, n_text_ctx: 64}
encoder:
  - conv1d: {out: $d_model, kernel: 3, stride: 2, padding: 1, weights: model.encoder.conv1}
  - relu
decoder:
  - embedding: {vocab: $n_vocab, width: $d_model, weights: model.decoder.embed_tokens}
  - positions: {weights: model.decoder.embed_positions}
  - residual:
      - cross_attention: {heads: $n_heads, weights: model.decoder.attn}
  - logits: {tied: model.decoder.embed_tokens}
"""


def write_thin(folder: Path, text: str = THIN) -> tuple[Path, Path, Weights]:
    """Writes the spec `text`, which has THIN's dimensions, and a checkpoint of random weights for it.

    Returns the path of the spec, that of the checkpoint, and the weights.
    """
    checkpoint = folder / "thin-checkpoint"
    write_checkpoint(checkpoint, d_model=32, n_audio_ctx=50, n_text_ctx=64, encoder_layers=1, decoder_layers=1)
    configuration = json.loads((checkpoint / "config.json").read_text())
    kept = {name: value for name, value in configuration.items() if not name.endswith(("_layers", "_heads"))}
    write_json(checkpoint / "config.json", kept)  # transformers counts layers that this model does not have
    path = folder / "thin.yaml"
    path.write_text(text.replace("N_VOCAB", str(TOKENS.n_vocab)))
    rng = np.random.default_rng(0)
    weights = {
        tensor.name: (rng.standard_normal(tensor.shape) * (0.2 if tensor.matrix else 1)).astype(np.float32)
        for tensor in load_spec(path).tensors()
        if not tensor.computed
    }
    write_safetensors(checkpoint / "model.safetensors", weights, "float32")
    return path, checkpoint, weights
