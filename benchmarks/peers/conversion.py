"""What is made of a checkpoint without others' code: its spec, and the models of whisper.cpp and of openai/whisper."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from max_whisper.mel_filters import mel_filters
from max_whisper.tensors import safetensors_file
from max_whisper.tensors.dtypes import FLOAT32
from max_whisper.weights.checkpoint import open_checkpoint
from max_whisper.weights.names import OPENAI
from max_whisper.weights.vocabulary import read_vocabulary
from numpy.typing import NDArray

from benchmarks.peers.ggml import FILE_TYPES, write_ggml

TIED = "proj_out.weight"


def write_whispercpp(checkpoint: Path, models: Path) -> None:
    """Writes a ggml file of each type."""
    dims = dimensions(checkpoint)
    vocabulary = read_vocabulary(open_checkpoint(checkpoint).file, dims["n_vocab"])
    for kind in FILE_TYPES:
        file = models / f"{kind}.bin"
        write_ggml(file, dims, mel_filters(dims["n_mels"]), vocabulary.ranks, tensors(checkpoint), kind)


def write_openai(checkpoint: Path, models: Path) -> None:
    """Writes the tensors in float32, and what else a model is made of: its dimensions and its alignment heads."""
    heads = json.loads((checkpoint / "generation_config.json").read_text()).get("alignment_heads")
    (models / "model.json").write_text(json.dumps({"dims": dimensions(checkpoint), "alignment_heads": heads}))
    entries = [
        safetensors_file.Entry(name, FLOAT32.format, array.shape, lambda array=array: array)
        for name, array in tensors(checkpoint).items()
    ]
    safetensors_file.write(models / "model.safetensors", entries)


WRITERS: dict[str, Callable[[Path, Path], None]] = {"whispercpp": write_whispercpp, "openai_whisper": write_openai}
"""The function that writes the models of an engine, by its name; it takes a checkpoint's folder and an empty folder."""


def dimensions(checkpoint: Path) -> dict[str, int]:
    """Returns the fields of openai/whisper's `ModelDimensions` for a checkpoint's folder."""
    config = json.loads((checkpoint / "config.json").read_text())
    return {
        "n_mels": config["num_mel_bins"],
        "n_audio_ctx": config["max_source_positions"],
        "n_audio_state": config["d_model"],
        "n_audio_head": config["encoder_attention_heads"],
        "n_audio_layer": config["encoder_layers"],
        "n_vocab": config["vocab_size"],
        "n_text_ctx": config["max_target_positions"],
        "n_text_state": config["d_model"],
        "n_text_head": config["decoder_attention_heads"],
        "n_text_layer": config["decoder_layers"],
    }


def spec_of(checkpoint: Path) -> str:
    """Returns the name of the shipped spec with the dimensions of a checkpoint; raises ValueError if there is none."""
    from max_whisper.spec import load_spec, shipped_specs

    theirs = dimensions(checkpoint)
    names = {
        "n_mels": "n_mels",
        "n_audio_ctx": "n_audio_ctx",
        "n_vocab": "n_vocab",
        "n_text_ctx": "n_text_ctx",
        "d_model": "n_audio_state",
        "encoder_layers": "n_audio_layer",
        "decoder_layers": "n_text_layer",
    }
    for name in shipped_specs():
        dims = load_spec(name).dims
        if all(dims.get(ours) == theirs[openai] for ours, openai in names.items()):
            return name
    raise ValueError(f"{checkpoint}: no shipped spec has its dimensions")


def tensors(checkpoint: Path) -> dict[str, NDArray[Any]]:
    """Returns a checkpoint's tensors, float32, under openai/whisper's names, without the tied output layer."""
    opened = open_checkpoint(checkpoint)
    return {OPENAI.renamed(name): opened.read(name, "float32") for name in opened.source.names() if name != TIED}
