"""The dimensions of the small model, and its spec.

Compiling takes a minute or two per model whatever its size, so there are few different graphs. Checkpoints of SMALL
have equal ones: another seed, another kind of vocabulary and changed weights come out of the compile cache.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from support.models.vocabulary import make_tokens

RATE = 16000
WINDOW = 2.0  # seconds
TOKENS = make_tokens("multilingual")
SMALL = {
    "n_mels": 80,
    "n_audio_ctx": 100,  # a multiple of 50, so that a window is a whole number of seconds
    "d_model": 64,
    "n_heads": 2,
    "d_ffn": 256,
    "n_vocab": TOKENS.n_vocab,
    "n_text_ctx": 448,
    "encoder_layers": 2,
    "decoder_layers": 2,
}


def dims_of(family: str = "multilingual", **changes: int) -> dict[str, int]:
    """Returns SMALL with changes; d_ffn is 4 times d_model and n_vocab the size of the vocabulary, if not given."""
    dims = {**SMALL, "n_vocab": make_tokens(family).n_vocab, **changes}
    return {**dims, "d_ffn": changes.get("d_ffn", 4 * dims["d_model"])}


def write_spec(folder: Path, name: str = "small", **dims: int) -> Path:
    """Writes `folder/name.yaml`, the layers of tiny with the dimensions of SMALL, or others; returns its path."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"extends": "tiny.yaml", "name": name, "dims": {**SMALL, **dims}}))
    return path
