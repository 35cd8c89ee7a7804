"""Small models, built by the real compiler from random checkpoints: what the fixtures in conftest.py are made of.

Compiling takes a minute or two per model whatever its size, so there are few different graphs. Checkpoints of SMALL
have equal ones: another seed, another kind of vocabulary and changed weights come out of the compile cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from max_whisper.spec import load_spec
from support.checkpoints import make_tokens, make_weights, write_checkpoint, write_json, write_safetensors

RATE = 16000
WINDOW = 2.0  # seconds, of SMALL
TOKENS = make_tokens("multilingual")
SMALL = {
    "n_mels": 80,
    "n_audio_ctx": 100,
    "d_model": 64,
    "n_heads": 2,
    "d_ffn": 256,
    "n_vocab": TOKENS.n_vocab,
    "n_text_ctx": 448,
    "encoder_layers": 2,
    "decoder_layers": 2,
}
EMBEDDING = "model.decoder.embed_tokens.weight"

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
"""The fewest layers of which an artifact can be made, for what is slow to compile."""

Weights = dict[str, np.ndarray]


def write_spec(folder: Path, name: str = "small", **dims: int) -> Path:
    """`folder/name.yaml`: the layers of tiny with the dimensions of SMALL, or others."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"extends": "tiny.yaml", "name": name, "dims": {**SMALL, **dims}}))
    return path


def write_weights(
    folder: Path,
    *,
    family: str = "multilingual",
    seed: int = 0,
    change: Callable[[Weights], None] = lambda weights: None,
    dtype: str = "float32",
    **dims: int,
) -> Path:
    """A checkpoint for the spec of the same `dims`; `change` may alter its tensors in place.

    A vocabulary smaller than the model's (family "english") is padded, as config.json then says.
    """
    sizes = {**SMALL, **dims}
    n_vocab = sizes.pop("n_vocab")
    write_checkpoint(folder, family=family, seed=seed, **sizes)
    weights = make_weights({**sizes, "n_vocab": n_vocab}, make_tokens(family).special["<|endoftext|>"], seed)
    change(weights)
    write_safetensors(folder / "model.safetensors", weights, dtype)
    configuration = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", configuration | {"vocab_size": n_vocab})
    return folder


def end_soon(weights: Weights) -> None:
    """Lets end-of-text win now and then, against what checkpoints.py does to it."""
    weights[EMBEDDING][TOKENS.special["<|endoftext|>"]] *= 40


def write_thin(folder: Path, text: str = THIN) -> tuple[Path, Path, Weights]:
    """The spec `text`, which has THIN's dimensions, a checkpoint of random weights for it, and these weights."""
    checkpoint = folder / "thin-checkpoint"
    sizes = {"n_audio_ctx": 50, "n_text_ctx": 64, "encoder_layers": 1, "decoder_layers": 1}
    dims = write_checkpoint(checkpoint, d_model=32, **sizes)
    configuration = json.loads((checkpoint / "config.json").read_text())
    kept = {name: value for name, value in configuration.items() if not name.endswith(("_layers", "_heads"))}
    write_json(checkpoint / "config.json", kept)  # this model has other layers than Transformers counts
    path = folder / "thin.yaml"
    path.write_text(text.replace("N_VOCAB", str(dims["n_vocab"])))
    rng = np.random.default_rng(0)
    weights = {
        tensor.name: (rng.standard_normal(tensor.shape) * (0.2 if tensor.matrix else 1)).astype(np.float32)
        for tensor in load_spec(path).tensors()
    }
    write_safetensors(checkpoint / "model.safetensors", weights, "float32")
    return path, checkpoint, weights
