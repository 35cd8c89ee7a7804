"""Compares a checkpoint's configuration with the spec: the tensors alone show neither heads nor activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from max_whisper.errors import WeightsError
from max_whisper.messages import quote
from max_whisper.spec import Spec
from max_whisper.spec.layer import Layer
from max_whisper.spec.layers.activation import Activation
from max_whisper.spec.layers.residual import Residual
from max_whisper.spec.tree import ModelPart
from max_whisper.weights.checkpoint import Checkpoint
from max_whisper.weights.hub_files import CONFIGURATION, PREPROCESSOR, PROCESSOR
from max_whisper.weights.json_files import Configuration, FeatureExtractor, Processor, read_json

ACTIVATIONS = {
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"),
    "relu": ("relu",),
    "silu": ("silu", "swish"),
}
"""The names that transformers has for each activation of the spec language (its `ACT2FN`)."""

SOUND = {"sampling_rate": 16000, "hop_length": 160, "n_fft": 400}  # of every Whisper, and of runtime/audio/mel.py
ADVICE = "take the spec of this model, or correct the one that is wrong"


def check_architecture(checkpoint: Checkpoint, spec: Spec) -> None:
    """Refuses a checkpoint whose own files describe another model than the spec.

    config.json, preprocessor_config.json and processor_config.json are read where they lie beside the weights; what
    they do not say is not compared. Raises WeightsError with both values of every field that differs.
    """
    if (path := checkpoint.beside(CONFIGURATION)) is not None:
        found = read_json(path, Configuration)
        wanted = _configuration(spec)
        _compare(str(path), found, wanted, spec)
        _check_activation(str(path), found.activation_function, spec)
    mel = {"feature_size": spec.n_mels, **SOUND}
    if (path := checkpoint.beside(PREPROCESSOR)) is not None:
        _compare(str(path), read_json(path, FeatureExtractor), mel, spec)
    if (path := checkpoint.beside(PROCESSOR)) is not None:
        _compare(str(path), read_json(path, Processor).feature_extractor, mel, spec)


def _configuration(spec: Spec) -> dict[str, Any]:
    """Returns what config.json says of a model with the layers of the spec."""
    encoder, decoder = _heads(spec.encoder), _heads(spec.decoder)
    return {
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "d_model": spec.d_model,
        "encoder_layers": len(encoder),
        "decoder_layers": len(decoder),
        "encoder_attention_heads": _only(encoder),
        "decoder_attention_heads": _only([*decoder, *(layer.heads for layer in spec.cross_attentions())]),
        "num_mel_bins": spec.n_mels,
        "max_source_positions": spec.n_audio_ctx,
        "max_target_positions": spec.n_text_ctx,
        "vocab_size": spec.n_vocab,
        "scale_embedding": False,
    }


def _heads(side: ModelPart) -> list[int]:
    """Returns the number of heads of each self-attention."""
    return [node.layer.heads for node in side.walk() if node.layer.self_attention]  # type: ignore[attr-defined]


def _only(values: list[int]) -> Any:
    """Returns the value that all layers have, else all values, which no configuration can express."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else different


def _compare(where: str, found: object, wanted: Mapping[str, Any], spec: Spec) -> None:
    said = {name: getattr(found, name, None) for name in wanted}
    wrong = [
        f"{name} is {_shown(said[name])}, in the spec {_shown(value)}"
        for name, value in wanted.items()
        if said[name] is not None and said[name] != value
    ]
    if wrong:
        raise WeightsError(f"{where} does not fit the spec {spec.name}: {'; '.join(wrong)}: {ADVICE}")


def _check_activation(where: str, name: str | None, spec: Spec) -> None:
    """Checks the activation of the feed-forward branches; that after the convolutions is in no configuration."""
    kinds = {layer.kind for layer in _in_residuals(spec)}
    if name is None or all(name in ACTIVATIONS[kind] for kind in kinds):
        return
    meant = next((kind for kind, names in ACTIVATIONS.items() if name in names), None)
    advice = ADVICE if meant else "the spec language has no such activation"
    raise WeightsError(
        f"{where} does not fit the spec {spec.name}: activation_function is {quote(name)}, in the spec "
        f"{' and '.join(map(quote, sorted(kinds)))}{f' (it would be {meant})' if meant else ''}: {advice}"
    )


def _in_residuals(spec: Spec) -> Iterator[Layer]:
    for side in (spec.encoder, spec.decoder):
        for node in side.walk():
            if isinstance(node.layer, Residual):
                yield from (inner.layer for inner in node.walk() if isinstance(inner.layer, Activation))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quote(value) if isinstance(value, str) else str(value)
