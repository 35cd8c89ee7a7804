"""Small models, built by the real compiler from random checkpoints: what the fixtures in conftest.py are made of.

Compiling costs a minute per graph whatever its size, so there are few different graphs. All of SMALL have equal ones:
another seed, another vocabulary of the same size or other special tokens come out of the compile cache.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from checkpoints import encode_array, make_tokens, make_weights, write_checkpoint, write_json, write_safetensors

import max_whisper

WINDOW = 2.0  # seconds
RATE = 16000
SMALL = {
    "n_audio_ctx": 100,  # a window of 2 s
    "d_model": 64,
    "n_heads": 2,
    "d_ffn": 256,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "n_vocab": make_tokens("multilingual").n_vocab,
}


def write_spec(folder: Path, name: str = "small", **dims: int) -> Path:
    """`folder/name.yaml`: tiny's architecture with the dimensions of SMALL, and others."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"extends": "tiny.yaml", "name": name, "dims": {**SMALL, **dims}}))
    return path
