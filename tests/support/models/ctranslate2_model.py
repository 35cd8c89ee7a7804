"""Writes CTranslate2 models with CTranslate2's own classes, from the tensors of a checkpoint; no PyTorch is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ctranslate2.specs import model_spec, transformer_spec
from ctranslate2.specs.whisper_spec import WhisperConfig, WhisperSpec
from max_whisper.weights.checkpoint import open_checkpoint
from support.models.checkpoint import encode_array

Weights = dict[str, np.ndarray]


class BFloat16(model_spec.Variable):
    """A bfloat16 variable, of which CTranslate2 has none without PyTorch."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array.astype(np.float32)

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: "bfloat16")

    def numpy(self) -> np.ndarray:
        return self.array

    def num_bytes(self) -> int:
        return self.array.size * 2

    def to_bytes(self) -> bytes:
        return encode_array(self.array, "bfloat16")

    def _to(self, dtype: str) -> model_spec.Variable:
        raise NotImplementedError

    def _equal(self, other: object) -> bool:
        return np.array_equal(self.array, other.array)  # type: ignore[attr-defined]


def read_weights(checkpoint: Path) -> Weights:
    """Returns the tensors of a checkpoint in the layout of the Hub, float32, under its names."""
    opened = open_checkpoint(checkpoint)
    return {name: np.array(opened.read(name, "float32")) for name in opened.source.names()}


def write_ctranslate2(
    folder: Path,
    checkpoint: Path,
    quantization: str | None = None,
    *,
    weights: Weights | None = None,
    change: Callable[[WhisperSpec], None] = lambda spec: None,
) -> Path:
    """Converts a checkpoint in the layout of the Hub; returns `folder`, which must not exist.

    Args:
        folder: The folder to write.
        checkpoint: The checkpoint.
        quantization: As for CTranslate2's `optimize`: "int8", "float16" and so on; None keeps float32.
        weights: The tensors, in place of the checkpoint's own.
        change: A function that alters the spec after it was filled.
    """
    configuration, generation = (
        json.loads((checkpoint / name).read_text()) for name in ("config.json", "generation_config.json")
    )
    spec = WhisperSpec(
        configuration["encoder_layers"],
        configuration["encoder_attention_heads"],
        configuration["decoder_layers"],
        configuration["decoder_attention_heads"],
    )
    fill(spec, read_weights(checkpoint) if weights is None else weights)
    spec.register_vocabulary(tokens_of(checkpoint, configuration["vocab_size"]))
    for name, value in configure(generation).__dict__.items():
        setattr(spec.config, name, value)
    change(spec)
    spec.validate()
    spec.optimize(quantization if quantization != "bfloat16" else None)
    if quantization == "bfloat16":
        model_spec.visit_spec(spec, as_bfloat16)
    folder.mkdir()
    spec.save(str(folder))
    return folder


def as_bfloat16(spec: model_spec.LayerSpec, name: str, value: object) -> None:
    """Replaces a float variable of a spec, as `optimize` does where PyTorch is installed."""
    if isinstance(value, model_spec.Variable) and not value.is_scalar():
        setattr(spec, name.split("/")[-1], BFloat16(value.numpy()))


def configure(generation: dict[str, object]) -> WhisperConfig:
    """Returns config.json for what generation_config.json says."""
    return WhisperConfig(
        suppress_ids=generation["suppress_tokens"],
        suppress_ids_begin=generation["begin_suppress_tokens"],
        lang_ids=sorted(generation.get("lang_to_id", {}).values()),
        alignment_heads=generation.get("alignment_heads"),
    )


def tokens_of(checkpoint: Path, n_vocab: int) -> list[str]:
    """Returns the names of all tokens by id; where the model is padded, the converter goes on with timestamps."""
    ids = {
        **json.loads((checkpoint / "vocab.json").read_text()),
        **json.loads((checkpoint / "added_tokens.json").read_text()),
    }
    names = sorted(ids, key=ids.__getitem__)
    first = ids["<|0.00|>"]
    return names + [f"<|{(i - first) * 0.02:.2f}|>" for i in range(len(names), n_vocab)]


def fill(spec: WhisperSpec, weights: Weights) -> None:
    """Sets the variables of a spec."""
    weights = {name.removeprefix("model."): array for name, array in weights.items()}
    for side, part in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        part.position_encodings.encodings = weights[f"{side}.embed_positions.weight"]
        norm(part.layer_norm, weights, f"{side}.layer_norm")
        for i, layer in enumerate(part.layer):
            layer_name = f"{side}.layers.{i}"
            attention(
                layer.self_attention, weights, f"{layer_name}.self_attn", [["q_proj", "k_proj", "v_proj"], ["out_proj"]]
            )
            if isinstance(layer, transformer_spec.TransformerDecoderLayerSpec):
                parts = [["q_proj"], ["k_proj", "v_proj"], ["out_proj"]]
                attention(layer.attention, weights, f"{layer_name}.encoder_attn", parts)
            linear(layer.ffn.linear_0, weights, f"{layer_name}.fc1")
            linear(layer.ffn.linear_1, weights, f"{layer_name}.fc2")
            norm(layer.ffn.layer_norm, weights, f"{layer_name}.final_layer_norm")
    linear(spec.encoder.conv1, weights, "encoder.conv1")
    linear(spec.encoder.conv2, weights, "encoder.conv2")
    spec.decoder.embeddings.weight = weights["decoder.embed_tokens.weight"]
    spec.decoder.projection.weight = weights["decoder.embed_tokens.weight"].copy()


def norm(spec: model_spec.LayerSpec, weights: Weights, name: str) -> None:
    spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]


def linear(spec: model_spec.LayerSpec, weights: Weights, *names: str) -> None:
    """Sets a linear layer, of which the projections `names` are parts; a missing bias is zero."""
    matrices = [weights[f"{name}.weight"] for name in names]
    spec.weight = np.concatenate(matrices)
    spec.bias = np.concatenate(
        [weights.get(f"{name}.bias", np.zeros(len(a), np.float32)) for name, a in zip(names, matrices, strict=True)]
    )


def attention(spec: model_spec.LayerSpec, weights: Weights, name: str, parts: list[list[str]]) -> None:
    norm(spec.layer_norm, weights, f"{name}_layer_norm")
    for one, projections in zip(spec.linear, parts, strict=True):
        linear(one, weights, *(f"{name}.{projection}" for projection in projections))
